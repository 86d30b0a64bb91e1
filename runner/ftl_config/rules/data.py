"""Datasets, templates, packing."""

from __future__ import annotations

from collections.abc import Iterator

from ftl_config.addresses import is_loopback
from ftl_config.keys import is_set
from ftl_config.nodes import Path
from ftl_config.rules.registry import Finding, Rule, error, warning
from ftl_config.schema.config import Config
from ftl_config.schema.data import DatasetSpec, UserDefinedType

COMPLETENESS = False

_PACKING_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")


def _entries(config: Config) -> Iterator[tuple[Path, DatasetSpec]]:
    for key in ("datasets", "test_datasets", "pretraining_dataset"):
        for index, entry in enumerate(getattr(config.data, key) or ()):
            yield (key, index), entry


def one_source_of_evaluation(config: Config) -> Iterator[Finding]:
    """Rows held back, or datasets of their own."""
    if config.data.test_datasets and config.data.val_set_size:
        yield error(
            "cannot be combined with test_datasets", "val_set_size", "test_datasets", hint="keep one of the two"
        )


def held_back_rows_are_a_number(config: Config) -> Iterator[Finding]:
    """Above 1, val_set_size counts rows."""
    size = config.data.val_set_size
    if size > 1 and size != int(size):
        yield error("a number above 1 counts rows and has to be whole", "val_set_size", hint="0.05 holds back 5 %")
    elif size == 1:
        yield error("1 would hold back every row", "val_set_size", hint="0.01 holds back 1 %")


def dataset_type_is_current(config: Config) -> Iterator[Finding]:
    """Formats that Axolotl has given up."""
    for path, entry in _entries(config):
        if isinstance(entry.type, str) and entry.type.split(":")[0].split(".")[0] in ("sharegpt", "sharegpt_simple"):
            hint = "type: chat_template, field_messages: conversations, message_property_mappings: {role: from, ...}"
            yield error("the format sharegpt is gone", (*path, "type"), hint=hint)


def dataset_address_is_safe(config: Config) -> Iterator[Finding]:
    """Data is fetched over https only."""
    for path, entry in _entries(config):
        if entry.path is not None and entry.path.startswith("http://") and not is_loopback(entry.path):
            yield error("is an http:// address; only https:// is read", (*path, "path"))


def shard_exists(config: Config) -> Iterator[Finding]:
    """``shards_idx`` counts from 0 within ``shards``."""
    for path, entry in _entries(config):
        if entry.shards_idx is not None and entry.shards is None:
            yield error("needs shards", (*path, "shards_idx"))
        elif entry.shards is not None and entry.shards_idx is not None and entry.shards_idx >= entry.shards:
            yield error(f"there are only {entry.shards} shards, counted from 0", (*path, "shards_idx"))
        if entry.shards is not None and entry.preprocess_shards is not None:
            yield error("cannot be combined with shards", (*path, "preprocess_shards"))
    number, index = config.data.dataset_shard_num, config.data.dataset_shard_idx
    if index is not None and number is None:
        yield error("needs dataset_shard_num", "dataset_shard_idx", "dataset_shard_num")
    elif number is not None and index is not None and index >= number:
        yield error(f"there are only {number} shards, counted from 0", "dataset_shard_idx", "dataset_shard_num")


def own_format_has_its_fields(config: Config) -> Iterator[Finding]:
    """The format for rows without input cannot name the input."""
    for path, entry in _entries(config):
        if isinstance(entry.type, UserDefinedType) and "{input}" in (entry.type.no_input_format or ""):
            yield error("cannot hold {input}: it is for rows without one", (*path, "type", "no_input_format"))


def jinja_needs_template(config: Config) -> Iterator[Finding]:
    """``chat_template: jinja`` says that the template is given; any other name that it is not."""
    for path, name, text in _templates(config):
        if name == "jinja" and not text:
            yield error("jinja needs chat_template_jinja", (*path, "chat_template"))
        elif text and name not in (None, "jinja"):
            message = f"has no effect beside chat_template: {name}"
            yield error(message, (*path, "chat_template_jinja"), hint="write chat_template: jinja")


def _templates(config: Config) -> Iterator[tuple[Path, str | None, str | None]]:
    yield (), config.data.chat_template, config.data.chat_template_jinja
    for path, entry in _entries(config):
        yield path, entry.chat_template, entry.chat_template_jinja


def mistral_common_takes_no_changes(config: Config) -> Iterator[Finding]:
    """Mistral's own tokenizer cannot be edited."""
    if not config.model.tokenizer_use_mistral_common:
        return
    values = {
        "special_tokens": config.model.special_tokens,
        "tokens": config.model.tokens,
        "added_tokens_overrides": config.model.added_tokens_overrides,
        "chat_template": config.data.chat_template,
        "processor_kwargs": config.multimodal.processor_kwargs,
    }
    for key, value in values.items():
        if value:
            yield error("cannot be combined with tokenizer_use_mistral_common", key, "tokenizer_use_mistral_common")


def packing_keeps_samples_apart(config: Config) -> Iterator[Finding]:
    """Packed samples must not see each other, which takes an attention that can tell them apart."""
    name = config.model.attn_implementation
    if name is None or name in _PACKING_ATTENTION or name == "xformers" or "flash" in name:
        return
    for key in ("sample_packing", "eval_sample_packing", "batch_flattening"):
        if getattr(config.data, key) is True:
            hint = f"it works with {', '.join(_PACKING_ATTENTION)}"
            yield error(f"{name} cannot keep packed samples apart", "attn_implementation", key, hint=hint)
            return


def flash_attention_joins_rows(config: Config) -> Iterator[Finding]:
    """FlashAttention finds the borders between samples in a batch of one row only."""
    name = config.model.attn_implementation or ""
    if config.data.multipack_real_batches and "flash" in name:
        message = f"has no effect with {name}, which keeps samples apart within one row only"
        yield warning(message, "multipack_real_batches", "attn_implementation")


def packing_wants_full_rows(config: Config) -> Iterator[Finding]:
    """Rows of one length are what packing is for."""
    if config.data.sample_packing and config.data.pad_to_sequence_len is False:
        yield warning(
            "true is better with sample_packing: every step then takes the same memory", "pad_to_sequence_len"
        )


def packing_keys_need_packing(config: Config) -> Iterator[Finding]:
    """Evaluation alone is seldom meant to be packed."""
    if config.data.eval_sample_packing and not config.data.sample_packing:
        yield warning("evaluation is packed and training is not", "eval_sample_packing", "sample_packing")


def packing_or_grouping(config: Config) -> Iterator[Finding]:
    """Packed rows all have one length: nothing is left to group."""
    if config.data.sample_packing and config.data.group_by_length:
        yield warning("has no effect with sample_packing", "group_by_length", "sample_packing")


def flattening_or_packing(config: Config) -> Iterator[Finding]:
    """Two ways to the same thing."""
    if config.data.batch_flattening is True and config.data.sample_packing:
        yield error("cannot be combined with sample_packing", "batch_flattening", "sample_packing")


def upload_needs_token(config: Config) -> Iterator[Finding]:
    """Uploading data is done on purpose."""
    if config.data.push_dataset_to_hub and config.data.hf_use_auth_token is not True:
        yield error("needs hf_use_auth_token: true", "push_dataset_to_hub", "hf_use_auth_token")


def stream_has_no_end(config: Config) -> Iterator[Finding]:
    """The length of a stream is not known, and it cannot be split or searched for doubles."""
    keys = [key for key in ("streaming", "pretraining_dataset") if getattr(config.data, key)]
    if not keys:
        return
    if config.training.max_steps is None:
        yield error("needs max_steps: the length of a stream is not known", keys[0], "max_steps")
    if config.data.val_set_size:
        yield error(f"cannot be combined with {keys[0]}", "val_set_size", keys[0], hint="use test_datasets")
    if config.data.dataset_exact_deduplication:
        yield error(f"cannot be combined with {keys[0]}", "dataset_exact_deduplication", keys[0])
    if config.data.push_dataset_to_hub:
        yield error(f"cannot be combined with {keys[0]}: nothing is prepared", "push_dataset_to_hub", keys[0])
    if config.data.dataset_shard_num:
        yield error(f"cannot be combined with {keys[0]}", "dataset_shard_num", keys[0], hint="use shards of an entry")
    if config.data.streaming and config.data.sample_packing and len(config.data.datasets or ()) > 1:
        yield error("cannot be packed when streamed, if there are several", "datasets", "streaming", "sample_packing")


def stream_keys_need_a_stream(config: Config) -> Iterator[Finding]:
    """Keys that say how a stream is read mean nothing for prepared data."""
    data = config.data
    if data.pretraining_dataset and data.datasets:
        hint = "one of the two says what is trained on; several entries of pretraining_dataset are mixed"
        yield error("cannot be combined with datasets", "pretraining_dataset", "datasets", hint=hint)
    for index, entry in enumerate(data.pretraining_dataset or ()):
        if entry.type not in (None, "pretrain", "completion"):
            path = ("pretraining_dataset", index, "type")
            yield error("pretraining data is plain text", path, hint="type: pretrain; others with streaming: true")
    if data.pretraining_sample_concatenation and data.sample_packing:
        yield warning("has no effect with sample_packing", "pretraining_sample_concatenation", "sample_packing")
    elif data.pretraining_sample_concatenation and not (data.streaming or data.pretraining_dataset):
        yield warning("has no effect without streaming", "pretraining_sample_concatenation")


def repeated_rows_are_kept(config: Config) -> Iterator[Finding]:
    """Deduplication would take away what a weight above 1 repeats."""
    for path, entry in _entries(config):
        if entry.weight is not None and entry.weight > 1 and config.data.dataset_exact_deduplication:
            yield error("above 1 cannot be combined with dataset_exact_deduplication", (*path, "weight"))


def unprepared_data_is_not_deduplicated(config: Config) -> Iterator[Finding]:
    """Deduplication is a part of preparing."""
    if config.data.dataset_exact_deduplication and config.data.skip_prepare_dataset:
        yield error(
            "cannot be combined with skip_prepare_dataset", "dataset_exact_deduplication", "skip_prepare_dataset"
        )


def prefetching_needs_workers(config: Config) -> Iterator[Finding]:
    """torch refuses a prefetch factor for data that the main process loads."""
    if config.data.dataloader_prefetch_factor is not None and config.data.dataloader_num_workers == 0:
        yield error("needs dataloader_num_workers above 0", "dataloader_prefetch_factor", "dataloader_num_workers")


def longest_sample_fits(config: Config) -> Iterator[Finding]:
    """Between the shortest and the longest sample there is something left."""
    shortest = config.data.min_sample_len
    if shortest is not None and shortest > config.data.sequence_len and is_set(config, "min_sample_len"):
        message = f"is above sequence_len ({config.data.sequence_len}): every sample would be dropped"
        yield error(message, "min_sample_len", "sequence_len")


RULES: list[Rule] = [
    one_source_of_evaluation,
    held_back_rows_are_a_number,
    dataset_type_is_current,
    dataset_address_is_safe,
    shard_exists,
    own_format_has_its_fields,
    jinja_needs_template,
    mistral_common_takes_no_changes,
    packing_keeps_samples_apart,
    flash_attention_joins_rows,
    packing_wants_full_rows,
    packing_keys_need_packing,
    packing_or_grouping,
    flattening_or_packing,
    upload_needs_token,
    stream_has_no_end,
    stream_keys_need_a_stream,
    repeated_rows_are_kept,
    unprepared_data_is_not_deduplicated,
    prefetching_needs_workers,
    longest_sample_fits,
]
