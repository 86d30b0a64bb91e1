"""A base that was released quantized: with GPTQ it takes a LoRA; what it cannot do is said before it is loaded."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from ftl_config import FtlError
from ftl_runner.merge import merge_lora
from ftl_runner.models.adapter import load_adapter
from ftl_runner.models.errors import ModelError
from ftl_runner.models.loader import load_base_model
from ftl_runner.models.quantization import check_released_quantization
from ftl_runner.trainer.arguments import make_arguments, make_schedule
from ftl_runner.trainer.configured import OptimizerFromConfig
from tests.unit.runner.snippets import CPU, config_of
from tests.unit.runner.test_adapters_train import TOKENS, add_adapter, configured, logits_of, save_random
from tests.unit.runner.tiny_models import words_tokenizer

GROUP = 32
needs_gptqmodel = pytest.mark.skipif(importlib.util.find_spec("gptqmodel") is None, reason="needs gptqmodel")


def pack(weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """GPTQ's tensors of an (out, in) weight rounded to 16 levels around zero, and the rounded weight."""
    grouped = weight.reshape(weight.shape[0], -1, GROUP)
    scales = (grouped.abs().amax(-1) / 7.5).half()
    levels = (grouped / scales[..., None].float()).round().clamp(-8, 7)
    rounded = (levels * scales[..., None].float()).reshape(weight.shape)
    nibbles = (levels.reshape(weight.shape).T + 8).to(torch.int64)  # (in, out), from 0 to 15
    shifts = torch.arange(0, 32, 4)[None, :, None]
    packed = (nibbles.reshape(-1, 8, weight.shape[0]) << shifts).sum(1)
    zeros = torch.full((weight.shape[1] // GROUP, weight.shape[0] // 8), 0x77777777)  # 8, stored as 7
    return {
        "qweight": _int32(packed),
        "qzeros": _int32(zeros),
        "scales": scales.T.contiguous(),
        "g_idx": torch.arange(weight.shape[1], dtype=torch.int32) // GROUP,
    }, rounded


def _int32(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values >= 2**31, values - 2**32, values).to(torch.int32)


@pytest.fixture(scope="module")
def gptq_base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny Llama in GPTQ's format, and the same with its rounded weights in full."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    save_random(LlamaConfig(vocab_size=64, **sizes), folder / "full")
    tensors, packed = load_file(folder / "full/model.safetensors"), {}
    for name, tensor in tensors.items():
        if "_proj.weight" in name:
            parts, tensors[name] = pack(tensor)
            packed.update({f"{name.removesuffix('weight')}{part}": value for part, value in parts.items()})
        else:
            packed[name] = tensor
    (folder / "gptq").mkdir()
    save_file(tensors, folder / "full/model.safetensors", metadata={"format": "pt"})
    save_file(packed, folder / "gptq/model.safetensors", metadata={"format": "pt"})
    settings = json.loads((folder / "full/config.json").read_text())
    method = {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": GROUP,
        "desc_act": False,
        "sym": True,
        "backend": "torch",
    }
    settings["quantization_config"] = {**method, "checkpoint_format": "gptq"}
    (folder / "gptq/config.json").write_text(json.dumps(settings))
    for each in ("full", "gptq"):
        words_tokenizer(64).save_pretrained(folder / each)
    return folder / "gptq", folder / "full"


@needs_gptqmodel
def test_lora_on_a_gptq_base(gptq_base: tuple[Path, Path], tmp_path: Path) -> None:
    quantized, full = gptq_base
    config = configured(quantized, tmp_path, "adapter: lora\ngptq: true\n", steps=6)
    base = load_base_model(config, words_tokenizer(64), CPU)
    whole = load_base_model(configured(full, tmp_path, "adapter: lora\n"), words_tokenizer(64), CPU)
    expected = logits_of(whole)
    assert (logits_of(base) - expected).norm() / expected.norm() < 0.01
    model = add_adapter(base, config)
    frozen = {name: value.clone() for name, value in model.named_buffers()}
    arguments = make_arguments(config, CPU, make_schedule(config, 64, 1), 1)
    rows = [{"input_ids": TOKENS[0], "labels": TOKENS[0]}] * 64
    trainer = OptimizerFromConfig(config=config, model=model, args=arguments, train_dataset=rows)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.1
    assert all(torch.equal(value, frozen[name]) for name, value in model.named_buffers())
    trainer.save_model(str(tmp_path))
    again = load_adapter(load_base_model(config, words_tokenizer(64), CPU), config, tmp_path)
    assert (logits_of(again) - logits_of(model)).abs().max() < 1e-3


def test_merging_into_gptq_is_refused(gptq_base: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    config = configured(gptq_base[0], tmp_path, "adapter: lora\ngptq: true\n")
    with pytest.raises(FtlError, match="cannot be merged into weights quantized with GPTQ"):
        merge_lora(config)


REFUSED = [
    ("gptq", "adapter: lora\nload_in_4bit: true", "is quantized with GPTQ already"),
    ("gptq", "seed: 1", "its weights cannot be trained"),
    ("awq", "adapter: lora", "not yet supported: x/y is quantized with AWQ"),
    (None, "adapter: lora\ngptq: true", "gptq: x/y is not quantized with GPTQ"),
]


@pytest.mark.parametrize(("method", "lines", "message"), REFUSED)
def test_what_cannot_be_trained(method: str | None, lines: str, message: str) -> None:
    settings: Any = SimpleNamespace(quantization_config={"quant_method": method} if method else None)
    with pytest.raises(ModelError, match=message) as caught:
        check_released_quantization(config_of(f"base_model: x/y\n{lines}"), settings)
    assert caught.value.exit_code == 2


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    settings = SimpleNamespace(quantization_config={"quant_method": "gptq"})
    with pytest.raises(ModelError, match="which needs gptqmodel and optimum") as caught:
        check_released_quantization(config_of("base_model: x/y\nadapter: lora\ngptq: true"), settings)
    assert caught.value.hint == "pip install 'ftl-tune[gptq]'"
