"""From the deepspeed and fsdp keys to what DeepSpeed, Accelerate and the Trainer take."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest

from ftl_config import FtlError
from ftl_config.deepspeed import SHIPPED_NAMES
from ftl_runner.distributed.deepspeed import deepspeed_config, wants_compile
from ftl_runner.distributed.fsdp import check_shardable, complete_fsdp_arguments, fsdp_arguments
from ftl_runner.distributed.ranks import collective_backend
from ftl_runner.patches.accelerate_fsdp_cpu import VERSIONS
from tests.unit.runner.snippets import config_of, tiny_llama


def settings_of(lines: str, *, use_cpu: bool = False) -> dict[str, Any]:
    settings = deepspeed_config(config_of(lines), use_cpu=use_cpu)
    assert settings is not None
    return settings


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_shipped_files_are_taken_by_deepspeed(name: str) -> None:
    """DeepSpeed's own reading of each, with what transformers fills in for ``auto``."""
    settings = settings_of(f"deepspeed: deepspeed_configs/{name}")
    zero = settings["zero_optimization"]
    assert zero["stage"] == int(name[4])
    from deepspeed.compile.config import CompileConfig
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    DeepSpeedZeroConfig(**{key: value for key, value in zero.items() if value != "auto"})
    CompileConfig(**settings.get("compile", {}))
    assert settings["gradient_clipping"] == settings["train_batch_size"] == "auto"


def test_a_file_of_the_users_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "deepspeed_configs"
    folder.mkdir()
    (folder / "zero3.json").write_text(json.dumps({"zero_optimization": {"stage": 2}, "mine": True}))
    assert settings_of("deepspeed: deepspeed_configs/zero3.json")["mine"]
    assert "mine" not in settings_of("deepspeed: zero3.json")


def test_zero3_gathers_its_weights_to_save_them() -> None:
    def gathers(zero: str) -> bool | None:
        settings = settings_of(f"deepspeed: {{zero_optimization: {zero}}}")
        found: bool | None = settings["zero_optimization"].get("stage3_gather_16bit_weights_on_model_save")
        return found

    assert gathers("{stage: 3}") is True
    assert gathers("{stage: 3, stage3_gather_16bit_weights_on_model_save: false}") is False
    assert gathers("{stage: 2}") is None


def test_number_formats_of_a_file_on_a_cpu() -> None:
    lines = "deepspeed: {bf16: {enabled: true}, fp16: {enabled: auto, loss_scale: 0}}"
    config = config_of(lines)
    before = config.model_dump()
    settings = settings_of(lines, use_cpu=True)
    assert settings["bf16"] == {"enabled": "auto"}
    assert settings["fp16"] == {"enabled": False, "loss_scale": 0}
    assert settings_of(lines)["bf16"] == {"enabled": True}
    assert config.model_dump() == before


def test_compile_words_that_deepspeed_no_longer_takes() -> None:
    assert wants_compile(config_of("deepspeed: zero2_torch_compile.json")) == "inductor"
    assert wants_compile(config_of("deepspeed: {compile: {disable: false, backend: eager}}")) == "eager"
    for lines in ("{}", "deepspeed: zero2.json", "deepspeed: {compile: {disable: true}}"):
        assert wants_compile(config_of(lines)) is None
    kept = settings_of("deepspeed: {compile: {disable: false, backend: inductor, deepcompile: true}}")["compile"]
    assert kept == {"deepcompile": True}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("zero3_bf16_cpuofload_all.json", "did you mean `zero3_bf16_cpuoffload_all.json`?"),
        ("deepspeed_configs/zero3bf16.json", "did you mean `zero3_bf16.json`?"),
        ("mine/own.json", "one of ours: zero1.json"),
    ],
)
def test_no_such_file(name: str, hint: str) -> None:
    with pytest.raises(FtlError, match="no such file") as caught:
        settings_of(f"deepspeed: {name}")
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 2


FSDP: list[tuple[str, dict[str, Any]]] = [
    ("fsdp_version: 2", {"version": 2, "cpu_offload": False}),
    ("fsdp_config: {offload_params: true}", {"version": 2, "cpu_offload": True}),
    ("fsdp_config: {fsdp_offload_params: true, fsdp_version: 2}", {"version": 2, "cpu_offload": True}),
    ("fsdp: [full_shard, auto_wrap]", {"version": 2, "cpu_offload": False}),
    ("fsdp: [shard_grad_op, offload]", {"version": 2, "cpu_offload": True, "reshard_after_forward": False}),
    (
        "fsdp_version: 2\nfsdp_config: {state_dict_type: SHARDED_STATE_DICT, activation_checkpointing: true}",
        {"version": 2, "cpu_offload": False, "state_dict_type": "SHARDED_STATE_DICT", "activation_checkpointing": True},
    ),
    (
        "fsdp_config:\n  fsdp_transformer_layer_cls_to_wrap: OneLayer, OtherLayer\n"
        "  fsdp_sharding_strategy: SHARD_GRAD_OP",
        {
            "version": 2,
            "cpu_offload": False,
            "reshard_after_forward": False,
            "transformer_layer_cls_to_wrap": ["OneLayer", "OtherLayer"],
        },
    ),
    (
        "fsdp_version: 2\nfsdp_config: {auto_wrap_policy: SIZE_BASED_WRAP, min_num_params: 1000}",
        {"version": 2, "cpu_offload": False, "auto_wrap_policy": "SIZE_BASED_WRAP", "min_num_params": 1000},
    ),
]


@pytest.mark.parametrize(("lines", "expected"), FSDP)
def test_fsdp_arguments(lines: str, expected: dict[str, Any]) -> None:
    assert fsdp_arguments(config_of(lines), 2) == {"fsdp": True, "fsdp_config": expected}


@pytest.mark.parametrize("lines", ["{}", "fsdp: []", "deepspeed: zero3.json"])
def test_no_fsdp_without_its_keys(lines: str) -> None:
    assert fsdp_arguments(config_of(lines), 2) == {}


def test_one_process_has_nothing_to_shard(caplog: pytest.LogCaptureFixture) -> None:
    assert fsdp_arguments(config_of("fsdp_version: 2"), 1) == {}
    assert "--launcher torchrun" in caplog.text


@pytest.mark.parametrize(("lines", "expected"), [("{}", "nccl"), ("fsdp_version: 2", "cpu:gloo,cuda:nccl")])
def test_what_carries_collectives(lines: str, expected: str) -> None:
    assert collective_backend(config_of(lines), use_gpu=True) == expected
    assert collective_backend(config_of(lines), use_gpu=False) == "gloo"


class Arguments:
    """As much of TrainingArguments as is completed."""

    def __init__(self, plugin: dict[str, Any] | None) -> None:
        self.fsdp_plugin_args = plugin


@pytest.mark.parametrize(
    ("lines", "pinned"),
    [("offload_params: true", True), ("offload_params: true, cpu_offload_pin_memory: false", False)],
)
def test_what_transformers_has_no_words_for(lines: str, pinned: bool) -> None:
    arguments: Any = Arguments({"cpu_offload": True})
    config = config_of(f"fsdp_version: 2\nfsdp_config: {{{lines}, mixed_precision_policy: bf16}}")
    complete_fsdp_arguments(arguments, config, use_cpu=False)
    assert arguments.fsdp_plugin_args["cpu_offload"].pin_memory is pinned
    assert arguments.fsdp_plugin_args["mixed_precision_policy"] == "bf16"
    without: Any = Arguments(None)
    complete_fsdp_arguments(without, config_of("{}"), use_cpu=True)
    assert without.fsdp_plugin_args is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("LlamaDecoderLayr", "did you mean `LlamaDecoderLayer`?"),
        ("llamadecoderlayer", "did you mean `LlamaDecoderLayer`?"),
        ("MistralDecoderLayer", "LlamaDecoderLayer"),
        ("Block", "its layers are LlamaDecoderLayer; or leave the key out"),
    ],
)
def test_a_layer_class_that_the_model_does_not_have(name: str, hint: str) -> None:
    model = tiny_llama()
    check_shardable(config_of("fsdp_config: {transformer_layer_cls_to_wrap: LlamaDecoderLayer}"), model)
    config = config_of(f"fsdp_version: 2\nfsdp_config: {{transformer_layer_cls_to_wrap: {name}}}")
    with pytest.raises(FtlError, match=f"LlamaForCausalLM has no layers of class {name}") as caught:
        check_shardable(config, model)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("module", ["embed_tokens", "lm_head"])
def test_tied_ends_of_which_one_is_trained(module: str) -> None:
    model = tiny_llama()
    keys = f"adapter: lora\nlora_modules_to_save: [{module}]\n"
    check_shardable(config_of(keys + "fsdp_version: 2"), model)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    check_shardable(config_of(keys), model)
    check_shardable(config_of("adapter: lora\nlora_modules_to_save: [norm]\nfsdp_version: 2"), model)
    with pytest.raises(FtlError, match=f"{module} of LlamaForCausalLM shares its weight") as caught:
        check_shardable(config_of(keys + "fsdp_version: 2"), model)
    assert "zero3" in (caught.value.hint or "")


def test_this_accelerate_is_one_that_the_change_for_cpus_was_made_for() -> None:
    assert importlib.metadata.version("accelerate") in VERSIONS
