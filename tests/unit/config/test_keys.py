"""The key table: every Axolotl key is known, and what is said of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftl_config import load_text
from ftl_config.axolotl import HARMLESS_VALUES, LEGACY_FSDP, PLUGINS, RENAMED, table
from ftl_config.field_docs import field_docs
from ftl_config.keys import keys, section_types
from ftl_config.schema.types import Section
from ftl_config.shape import item_annotation, model_in
from tests.unit.config.configs import BASE, errors_of, problems_of

AXOLOTL_KEYS = [
    line for line in (Path(__file__).parent / "axolotl_keys.txt").read_text().splitlines() if not line.startswith("#")
]


def is_known(name: str) -> bool:
    if name in table() or (name.startswith("fsdp_config.") and name.split(".")[1] in LEGACY_FSDP):
        return True
    first, *rest = name.split(".")
    annotation: Any = keys()[first].annotation
    for part in rest:
        model = model_in(annotation) or model_in(item_annotation(annotation))
        if model is None or part not in model.model_fields:
            return False
        annotation = model.model_fields[part].annotation
    return True


def test_every_key_of_axolotl_is_known() -> None:
    assert len(AXOLOTL_KEYS) > 650
    assert [name for name in AXOLOTL_KEYS if not is_known(name)] == []


def test_table_names_only_keys_that_exist() -> None:
    """A word in the table that is no key (any more) would be a typo that silently turns another key on."""
    for name, status in table().items():
        if status.name in ("unsupported", "accepted"):
            first, *rest = name.split(".")
            assert first in keys(), name
            assert is_known(name), name
            assert len(rest) <= 1
    assert set(HARMLESS_VALUES) <= set(keys())


def test_no_key_has_two_statuses() -> None:
    from ftl_config import axolotl

    listed = [
        word
        for groups in (axolotl._UNSUPPORTED, axolotl._ACCEPTED)
        for text in groups.values()
        for word in text.split()
    ]
    assert len(listed) == len(set(listed))


def test_every_old_spelling_leads_to_a_key() -> None:
    for new in RENAMED.values():
        assert new.split(".")[0] in keys() or f"datasets.{new}" in AXOLOTL_KEYS or new == "split"


def all_models(model: type[Section] = Section) -> list[type[Section]]:
    return [found for child in model.__subclasses__() for found in (child, *all_models(child))]


@pytest.mark.parametrize("model", all_models(), ids=lambda model: model.__name__)
def test_every_field_has_its_text(model: type[Section]) -> None:
    docs = field_docs(model)
    for name in model.model_fields:
        assert docs.get(name, "").endswith((".", "...")) or name in ("rl",), f"{model.__name__}.{name}"
    assert model.__doc__


def test_defaults_are_axolotls() -> None:
    config = load_text("{}", partial=True).config
    assert config.data.sequence_len == 512
    assert (config.training.micro_batch_size, config.training.gradient_accumulation_steps) == (1, 1)
    assert config.training.optimizer == "adamw_torch_fused"
    assert config.training.lr_scheduler == "cosine"
    assert (config.training.seed, config.training.num_epochs, config.training.weight_decay) == (42, 1.0, 0.0)
    assert config.adapter.lora_dropout == 0.0
    assert config.checkpointing.output_dir == "./model-out"
    assert config.checkpointing.save_total_limit == 4
    assert (config.precision.bf16, config.precision.tf32, config.precision.fp16) == ("auto", "auto", None)
    assert (config.data.val_set_size, config.data.shuffle_merged_datasets) == (0.0, True)
    assert config.distributed.ray_num_workers == 1
    assert (config.data.sample_packing_group_size, config.data.sample_packing_bin_size) == (100_000, 200)


def test_unknown_key_is_an_error_or_a_warning() -> None:
    (problem,) = errors_of("lerning_rate: 1\n")
    assert (problem.key, problem.message, problem.hint) == (
        "lerning_rate",
        "unknown key",
        "did you mean `learning_rate`?",
    )
    loaded = load_text("lerning_rate: 1\ndatasets: [{path: x, tipe: y}]\n", partial=True, allow_unknown=True)
    assert [warning.key for warning in loaded.warnings] == ["lerning_rate", "datasets[0].tipe"]
    assert "lerning_rate" not in loaded.to_yaml()


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("context_parapllel_size: 1", "context_parapllel_size", "did you mean `context_parallel_size`?"),
        ("lora-r: 8", "lora-r", "did you mean `lora_r`?"),
        ("LEARNING_RATE: 8", "LEARNING_RATE", "did you mean `learning_rate`?"),
        ("batchsize: 8", "batchsize", "did you mean `batch_size`?"),
        ("zzz: 8", "zzz", None),
        ("datasets: [{path: x, field_message: y}]", "datasets[0].field_message", "did you mean `field_messages`?"),
        ("datasets: [{path: x, learning_rate: 1}]", "datasets[0].learning_rate", "write it without indentation"),
        ("special_tokens: {pad: x}", "special_tokens.pad", "known here: bos_token, eos_token, pad_token"),
        ("fsdp_config: {fsdp_offload_param: true}", "fsdp_config.offload_param", "did you mean `offload_params`?"),
        ("launch: {region: x, node: 2}", "launch.node", "did you mean `nodes`?"),
        ("launch: {recovery: {strategie: x}}", "launch.recovery.strategie", "did you mean `strategy`?"),
    ],
)
def test_did_you_mean(text: str, key: str, hint: str | None) -> None:
    problem = next(problem for problem in errors_of(text) if "unknown key" in problem.message)
    assert problem.key == key
    assert str(hint) in str(problem.hint)


@pytest.mark.parametrize(
    "line",
    [
        "rl:",
        "rl: ''",
        "reward_model: false",
        "qat: {}",
        "gptq: false",
        "unfrozen_parameters: []",
        "context_parallel_size: 1",
        "tensor_parallel_size: 1",
        "processor_type:",
        "skip_prepare_dataset: false",
        "streaming: no",
        "relora_prune_ratio:",
        "qgalore_rank: 256",
        "comet_api_key:",
        "rpo_alpha:",
        "s2_attention: false",
        "unsloth_rope: false",
    ],
)
def test_asking_for_nothing_is_no_error(line: str) -> None:
    assert problems_of(BASE + line + "\n") == []


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ("fp8: true", "fp8", "not yet supported: FP8"),
        ("qat: {weight_dtype: int8}", "qat", "not yet supported: quantization"),
        ("context_parallel_size: 2", "context_parallel_size", "not yet supported: context"),
        ("reinit_weights: true", "reinit_weights", "not yet supported"),
        ("plugins: [axolotl.integrations.spectrum.SpectrumPlugin]", "plugins[0]", "not yet supported: the plugin"),
        ("test_datasets: [{path: x, logprobs_field: y}]", "test_datasets[0].logprobs_field", "not yet supported"),
        ("comet_api_key: abc", "comet_api_key", "is refused: secrets stay out of configs"),
        ("s2_attention: true", "s2_attention", "is refused: shifted-sparse"),
        ("unsloth_rope: true", "unsloth_rope", "is refused: unsloth"),
    ],
)
def test_keys_that_are_refused(line: str, key: str, message: str) -> None:
    (problem,) = errors_of(line)
    assert problem.key == key
    assert problem.message.startswith(message)


@pytest.mark.parametrize(
    "name", sorted(name for name, status in table().items() if status.name == "dead" and "." not in name)
)
def test_dead_keys_warn(name: str) -> None:
    for value in ("", "1", "true", "[a, b]"):
        (problem,) = problems_of(f"{name}: {value}\n")
        assert (problem.severity, problem.key, problem.message) == ("warning", name, "has no effect any more")


def test_plugins_that_matter_not_are_named() -> None:
    text = "plugins:\n" + "".join(f"  - {name}\n" for name in PLUGINS)
    problems = problems_of(text)
    assert all(problem.severity == "warning" for problem in problems)
    assert [problem.key for problem in problems] == ["", "plugins[3]"]
    assert problems[0].message.endswith("here: CutCrossEntropyPlugin, KernelsPlugin")


def test_accepted_keys_say_that_they_do_nothing() -> None:
    (problem,) = problems_of("learning_rate: 1\nlora_mlp_kernel: true\ndevice_map: auto\nlora_on_cpu: true\n")
    assert problem.severity == "warning"
    assert problem.message == "these keys have no effect on results here: lora_mlp_kernel, device_map, lora_on_cpu"
    assert (problem.key, problem.line) == ("", 2)


def test_accepted_keys_with_a_note_worth_reading_have_a_line_of_their_own() -> None:
    (problem,) = problems_of("use_trackio: true\n")
    assert (problem.key, problem.message) == (
        "use_trackio",
        "has no effect here (measuring only: nothing is recorded for it)",
    )


def test_sections_are_those_of_the_contract() -> None:
    assert {"model", "adapter", "data", "training", "precision", "distributed", "preference"} <= set(section_types())
    assert {"logging", "checkpointing", "launch", "kernels", "multimodal"} <= set(section_types())
