"""Every key of the data section, and of an entry: whether the prepared set is another one when it changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftl_config.axolotl import table
from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.fingerprint import fingerprint
from tests.unit.data.data_support import chat_row, make_config, write_jsonl

CHANGES: dict[str, dict[str, Any]] = {
    "test_datasets": {"test_datasets": [{"path": "SAME", "type": "chat_template", "chat_template": "chatml"}]},
    "val_set_size": {"val_set_size": 3},
    "dataset_shard_num": {"dataset_shard_num": 2},
    "dataset_shard_idx": {"dataset_shard_num": 2, "dataset_shard_idx": 1},
    "dataset_exact_deduplication": {"dataset_exact_deduplication": True},
    "shuffle_merged_datasets": {"shuffle_merged_datasets": False},
    "shuffle_before_merging_datasets": {"shuffle_before_merging_datasets": True},
    "sequence_len": {"sequence_len": 128},
    "eval_sequence_len": {"eval_sequence_len": 128},
    "excess_length_strategy": {"excess_length_strategy": "truncate"},
    "min_sample_len": {"min_sample_len": 5},
    "skip_bad_rows": {"skip_bad_rows": True},
    "train_on_inputs": {"train_on_inputs": True},
    "chat_template_kwargs": {"chat_template_kwargs": {"x": 1}},
    "eot_tokens": {"eot_tokens": ["<|im_end|>"]},
    "default_system_message": {"default_system_message": "Hi"},
    "curriculum_sampling": {"curriculum_sampling": True},
    "sample_packing": {"sample_packing": True},
    "eval_sample_packing": {"eval_sample_packing": True},
    "sample_packing_bin_size": {"sample_packing_bin_size": 3},
    "sample_packing_sequentially": {"sample_packing_sequentially": True},
}
"""Keys that change the set, and what of them."""

SAME: dict[str, dict[str, Any]] = {
    "dataset_prepared_path": {"dataset_prepared_path": "elsewhere"},
    "dataset_num_proc": {"dataset_num_proc": 1},
    "push_dataset_to_hub": {"push_dataset_to_hub": "me/set", "hf_use_auth_token": True},
    "group_by_length": {"group_by_length": True},
    "pad_to_sequence_len": {"pad_to_sequence_len": False},
    "pad_to_multiple_of": {"pad_to_multiple_of": 8},
    "batch_flattening": {"batch_flattening": True},
    "multipack_real_batches": {"multipack_real_batches": True},
    "streaming_multipack_buffer_size": {"streaming_multipack_buffer_size": 5},
    "pretrain_multipack_attn": {"pretrain_multipack_attn": False},
    "pretraining_sample_concatenation": {"pretraining_sample_concatenation": True},
    "dataloader_num_workers": {"dataloader_num_workers": 2},
    "dataloader_pin_memory": {"dataloader_pin_memory": True},
    "dataloader_prefetch_factor": {"dataloader_prefetch_factor": 2, "dataloader_num_workers": 1},
    "dataloader_drop_last": {"dataloader_drop_last": True},
    "accelerator_config": {"accelerator_config": {"split_batches": False}},
}
"""Keys of how rows become batches, or where sets lie: the set is the same."""

ELSEWHERE = {"datasets", "streaming", "pretraining_dataset", "chat_template", "chat_template_jinja", "max_prompt_len"}
"""Tested with the entries below or in test_preference_sets.py, or (streams) never prepared."""

ENTRY_CHANGES: dict[str, Any] = {
    "split": "train[:50%]",
    "shards": 2,
    "shards_idx": {"shards": 2, "shards_idx": 1},
    "skip": 1,
    "weight": 2.0,
    "chat_template": "llama3",
    "field_messages": "talk",
    "field_system": "sys",
    "field_tools": "functions",
    "field_thinking": "thoughts",
    "template_thinking_key": "thinking",
    "message_property_mappings": {"role": "from"},
    "message_field_training": "train",
    "message_field_training_detail": "detail",
    "roles": {"user": ["human"]},
    "roles_to_train": ["user"],
    "train_on_eos": "all",
    "train_on_eot": "all",
    "drop_system_message": True,
    "split_thinking": True,
    "chat_template_kwargs": {"x": 1},
    "input_transform": "copy.copy",
    "field_chosen": "better",
    "field_rejected": "worse",
    "step_separator": " ",
    "max_completion_length": 5,
    "train_on_last_step_only": True,
}

ENTRY_SAME: dict[str, Any] = {"preprocess_shards": 2, "trust_remote_code": True}

OTHER_FORMATS = {
    "type", "field", "field_instruction", "field_input", "field_output", "text_column", "length", "sequence_length",
    "min_input_id", "max_input_id", "seed", "field_human", "field_model",
}  # fmt: skip
"""Keys of other types of rows, which stand in the same place as those above."""

PLACES = {"path", "name", "ds_type", "data_files", "revision", "chat_template_jinja"}
"""Keys that say where rows and template are: the content counts, tested where content is."""


@pytest.fixture
def mark(tmp_path: Path, tokenizer: Any) -> Any:
    data = write_jsonl(tmp_path / "data.jsonl", [chat_row(f"question {n}", f"answer {n}") for n in range(20)])
    base = {"path": str(data), "type": "chat_template", "chat_template": "chatml"}

    def make(entry: dict[str, Any] | None = None, **keys: Any) -> str:
        if "test_datasets" in keys:
            keys = {"test_datasets": [{**keys["test_datasets"][0], "path": str(data)}]}
        return fingerprint(make_config({**base, **(entry or {})}, folder=tmp_path, **keys), tokenizer)

    return make


def implemented(section: type[DataSection | DatasetSpec], prefix: str = "") -> set[str]:
    """Keys that do something; of others, no value is let through."""
    return {name for name in section.model_fields if table().get(prefix + name, None) is None or works(prefix + name)}


def works(name: str) -> bool:
    return table()[name].name == "implemented"


def test_every_data_key_is_judged() -> None:
    judged = {*CHANGES, *SAME, *ELSEWHERE}
    assert implemented(DataSection) - judged == set()
    assert set(CHANGES) & set(SAME) == set()


def test_every_key_of_an_entry_is_judged() -> None:
    judged = {*ENTRY_CHANGES, *ENTRY_SAME, *OTHER_FORMATS, *PLACES}
    assert implemented(DatasetSpec, "datasets.") - judged == set()


@pytest.mark.parametrize("name", CHANGES)
def test_keys_that_make_another_set(mark: Any, name: str) -> None:
    before = mark(dataset_shard_num=2) if name == "dataset_shard_idx" else mark()
    assert mark(**CHANGES[name]) != before


@pytest.mark.parametrize("name", SAME)
def test_keys_that_leave_the_set_as_it_is(mark: Any, name: str) -> None:
    assert mark(**SAME[name]) == mark()


@pytest.mark.parametrize("name", ENTRY_CHANGES)
def test_keys_of_an_entry_that_make_another_set(mark: Any, name: str) -> None:
    value = ENTRY_CHANGES[name]
    keys = value if isinstance(value, dict) and name in value else {name: value}
    before = mark({"shards": 2}) if name == "shards_idx" else mark()
    assert mark(keys) != before


@pytest.mark.parametrize("name", ENTRY_SAME)
def test_keys_of_an_entry_that_leave_the_set_as_it_is(mark: Any, name: str) -> None:
    assert mark({name: ENTRY_SAME[name]}) == mark()


def test_seed_and_order_of_entries_count_and_training_does_not(mark: Any) -> None:
    assert mark(seed=1) != mark(seed=2)
    assert mark(learning_rate=0.5, micro_batch_size=7, num_epochs=9) == mark()


@pytest.mark.parametrize(
    "keys",
    [
        {"excess_length_strategy": "drop"},
        {"min_sample_len": 2},
        {"eval_sequence_len": 256},
        {"eval_sample_packing": False},
        {"seed": 42},
    ],
)
def test_a_default_that_is_written_out_is_the_same_set(mark: Any, keys: dict[str, Any]) -> None:
    assert mark(**keys) == mark()
    assert mark({"split": "train"}) == mark()
