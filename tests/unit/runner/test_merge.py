"""A merged model computes what the adapter computes, whichever way it was merged."""

from __future__ import annotations

import gc
import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MixtralConfig

from ftl_config import Config, FtlError
from ftl_runner.merge import merge_lora
from ftl_runner.models.adapter import add_adapter
from tests.unit.runner.snippets import config_of
from tests.unit.runner.tiny_models import words_tokenizer

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TOKENS = torch.arange(3, 40).reshape(1, -1)


def save_base(folder: Path, settings: Any = None, **options: Any) -> Path:
    """A random model in several shards, with a tokenizer of 60 words."""
    torch.manual_seed(0)
    if settings is None:
        settings = LlamaConfig(vocab_size=60, **SIZES, attention_bias=True, **options)
    model: Any = AutoModelForCausalLM.from_config(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # far from zero, so that an adapter's effect and a mistake are both seen
    model.save_pretrained(folder, max_shard_size="6KB")
    words_tokenizer(60).save_pretrained(folder)
    return folder


def save_adapter(base: Path, folder: Path, lines: str) -> tuple[Config, torch.Tensor]:
    """An adapter with random weights, as if trained; its configuration and what it computes."""
    config = config_of(f"base_model: {base}\noutput_dir: {folder}\nadapter: lora\nlora_r: 4\nlora_alpha: 6\n{lines}")
    torch.manual_seed(1)
    model = add_adapter(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                scale = parameter.abs().mean() if "lora_magnitude" in name else 0.3
                parameter.add_(torch.randn_like(parameter) * scale * 0.5)
    model.save_pretrained(folder)
    return config, logits_of(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder))


def logits_of(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(TOKENS).logits  # type: ignore[no-any-return]


def with_method(config: Config, method: str) -> Config:
    return config.model_copy(update={"adapter": config.adapter.model_copy(update={"merge_method": method})})


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    files = [load_file(file) for file in folder.glob("*.safetensors")]
    return {name: tensor for tensors in files for name, tensor in tensors.items()}


def assert_merges(config: Config, expected: torch.Tensor, tolerance: float = 2e-4) -> None:
    """Both ways to merge write the same tensors, and the model they make computes what was expected."""
    found = {}
    for method in ("memory_efficient", "legacy"):
        merged = merge_lora(with_method(config, method))
        found[method] = tensors_of(merged)
        logits = logits_of(AutoModelForCausalLM.from_pretrained(merged))
        assert (logits - expected).abs().max() < tolerance, method
        shutil.rmtree(merged)
    assert found["legacy"].keys() == found["memory_efficient"].keys()
    for name, tensor in found["legacy"].items():
        assert torch.equal(tensor, found["memory_efficient"][name]), name


ADAPTERS = [
    ("lora_target_linear: true", {}),
    ("lora_target_modules: [q_proj, down_proj]\npeft_use_dora: true", {}),
    ("lora_target_linear: true\npeft_use_rslora: true\nlora_rank_pattern: {q_proj: 2}", {}),
    ("lora_target_modules: [q_proj]\nlora_modules_to_save: [mlp, embed_tokens, lm_head]", {}),
    ("lora_target_modules: [q_proj, embed_tokens, lm_head]", {}),
    ("lora_target_modules: []\nlora_target_parameters: [q_proj.weight, k_proj.weight]", {}),
    ("lora_target_modules: [q_proj]\nlora_modules_to_save: [embed_tokens, lm_head]", {"tie_word_embeddings": True}),
    ("lora_target_modules: [q_proj]\nlora_modules_to_save: [embed_tokens]", {"tie_word_embeddings": True}),
    ("lora_target_modules: [q_proj, embed_tokens]", {"tie_word_embeddings": True}),
    ("lora_target_modules: [q_proj, lm_head]", {"tie_word_embeddings": True}),
    ("lora_target_modules: [q_proj]\npeft_trainable_token_indices: [5, 6]", {"tie_word_embeddings": True}),
]


@pytest.mark.filterwarnings("ignore:.*tie")
@pytest.mark.parametrize(("lines", "options"), ADAPTERS)
def test_merged_logits_are_the_adapters(
    lines: str, options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = save_base(tmp_path / "base", **options)
    assert len(list(base.glob("model-*.safetensors"))) > 2
    config, expected = save_adapter(base, tmp_path / "out", lines)
    assert (logits_of(AutoModelForCausalLM.from_pretrained(base)) - expected).abs().max() > 0.05
    assert_merges(config, expected)
    assert not caplog.messages, "the memory-efficient merge gave up"


def test_merge_in_bf16(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = save_base(tmp_path / "base")
    config, expected = save_adapter(base, tmp_path / "out", "lora_target_linear: true\nbf16: full")
    assert_merges(config, expected, tolerance=0.5)
    assert {tensor.dtype for tensor in tensors_of(merge_lora(config)).values()} == {torch.bfloat16}
    assert not caplog.messages


def test_names_without_the_models_prefix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As in the files of models that were saved without their head."""
    base = save_base(tmp_path / "base", tie_word_embeddings=True)
    config, expected = save_adapter(base, tmp_path / "out", "lora_target_modules: [q_proj, embed_tokens]")
    tensors = {name.removeprefix("model."): tensor for name, tensor in tensors_of(base).items()}
    for file in base.glob("model*"):
        file.unlink()
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    merged = merge_lora(config)
    assert not caplog.messages
    assert (logits_of(AutoModelForCausalLM.from_pretrained(merged)) - expected).abs().max() < 2e-4


def test_experts_are_merged_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Mixtral's files hold its experts one by one, the model has them in one tensor: said, and merged all the same."""
    settings = MixtralConfig(vocab_size=60, **SIZES, num_key_value_heads=2, num_local_experts=2)
    base = save_base(tmp_path / "base", settings)
    lines = "lora_target_modules: []\nlora_target_parameters: [experts.gate_up_proj, experts.down_proj]"
    config, expected = save_adapter(base, tmp_path / "out", lines)
    merged = merge_lora(config)
    assert "merging with the whole model in memory" in caplog.text
    assert (logits_of(AutoModelForCausalLM.from_pretrained(merged)) - expected).abs().max() < 2e-4
    caplog.clear()
    config, expected = save_adapter(base, tmp_path / "attention", "lora_target_modules: [q_proj, v_proj]")
    assert_merges(config, expected)
    assert not caplog.messages, "experts without an adapter are copied"


def test_quantized_base_is_merged_in_full_precision(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    config, expected = save_adapter(base, tmp_path / "out", "lora_target_linear: true")
    adapter = config.adapter.model_copy(update={"adapter": "qlora", "load_in_4bit": True})
    assert_merges(config.model_copy(update={"adapter": adapter}), expected)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory as Linux does")
def test_memory_is_bounded_by_the_largest_shard(tmp_path: Path) -> None:
    base = tmp_path / "base"
    sizes = {"hidden_size": 1024, "intermediate_size": 1024, "num_hidden_layers": 9, "num_attention_heads": 4}
    save_base(base)
    LlamaForCausalLM(LlamaConfig(vocab_size=60, **sizes)).save_pretrained(base, max_shard_size="20MB")
    kept = set(json.loads((base / "model.safetensors.index.json").read_text())["weight_map"].values())
    for file in base.glob("model*.safetensors"):  # those of the smaller model
        if file.name not in kept:
            file.unlink()
    shards = [file.stat().st_size for file in base.glob("*.safetensors")]
    config, _ = save_adapter(base, tmp_path / "out", "lora_target_linear: true")
    small, _ = save_adapter(save_base(tmp_path / "small"), tmp_path / "small_out", "lora_target_linear: true")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:  # in which nothing else has run
        process.submit(merge_both_ways, small).result()  # imports are no part of what a merge takes
        peak = process.submit(merge_both_ways, config).result()
    assert sum(shards) > 10 * max(shards)
    assert peak["memory_efficient"] < 4 * max(shards)
    assert peak["legacy"] > sum(shards) * 0.9


def merge_both_ways(config: Config) -> dict[str, int]:
    """For each way to merge, how much the process grew."""
    return {method: peak_growth_bytes(with_method(config, method)) for method in ("memory_efficient", "legacy")}


def peak_growth_bytes(config: Config) -> int:
    """How much the process grows at most while it merges."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = memory_bytes("VmRSS")
    merge_lora(config)
    return memory_bytes("VmHWM") - before


def memory_bytes(field: str) -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) * 1024


def test_merge_needs_an_adapter(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    with pytest.raises(FtlError, match="merge-lora needs `adapter: lora`") as caught:
        merge_lora(config_of(f"base_model: {base}\noutput_dir: {tmp_path}"))
    assert caught.value.exit_code == 2
    with pytest.raises(FtlError, match="no adapter in"):
        merge_lora(config_of(f"base_model: {base}\noutput_dir: {tmp_path}\nadapter: lora"))
