"""``model_config.rope_scaling`` and ``rope_theta`` change a model's positions, and what longer sequences meet."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ftl_runner.models.errors import ModelError
from ftl_runner.models.loader import load_model_config
from ftl_runner.models.overrides import override
from ftl_runner.models.positions import FIXED, check_length, stretch_positions
from tests.unit.runner.snippets import config_of
from tests.unit.runner.tiny_models import tiny_causal_model, tiny_config

TRAINED = 256


def frequencies(kind: str, overrides: dict[str, Any], layers: str = "") -> torch.Tensor:
    """Of the rotary positions of a model with these overrides; it can also be run."""
    model_config = tiny_config(kind)
    override(model_config, overrides)
    model = AutoModelForCausalLM.from_config(model_config)
    model(input_ids=torch.arange(20)[None])
    buffers = {name.rpartition(".")[2]: buffer for name, buffer in model.named_buffers()}
    return buffers[f"{layers}inv_freq"]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "phi", "gpt_neox"])
def test_linear_scaling(kind: str) -> None:
    plain = frequencies(kind, {})
    for scaling in ({"type": "linear", "factor": 2.0}, {"rope_type": "linear", "factor": 2.0}):
        torch.testing.assert_close(frequencies(kind, {"rope_scaling": scaling}), plain / 2)


def test_base_of_rotary_positions() -> None:
    found = frequencies("llama", {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}})
    torch.testing.assert_close(found, frequencies("llama", {"rope_theta": 500.0}) / 2)
    assert not torch.equal(frequencies("llama", {"rope_theta": 500.0}), frequencies("llama", {}))


def test_scaling_can_be_taken_away() -> None:
    model_config = tiny_config("llama")
    override(model_config, {"rope_scaling": {"type": "linear", "factor": 2.0}})
    override(model_config, {"rope_scaling": None})
    assert model_config.rope_parameters == tiny_config("llama").rope_parameters


@pytest.mark.parametrize("kind", ["llama", "phi"])
def test_yarn_starts_from_the_length_that_was_trained(kind: str) -> None:
    model_config = tiny_config(kind)
    override(model_config, {"max_position_embeddings": 1024, "rope_scaling": {"type": "yarn", "factor": 4.0}})
    assert model_config.rope_parameters["original_max_position_embeddings"] == TRAINED
    assert model_config.max_position_embeddings == 1024
    AutoModelForCausalLM.from_config(model_config)(input_ids=torch.arange(20)[None])


def test_only_layers_that_look_far_are_scaled() -> None:
    overrides = {"rope_scaling": {"type": "linear", "factor": 8.0}, "rope_theta": 5e5}
    local, wide = (frequencies("gemma3_text", overrides, f"{name}_attention_") for name in ("sliding", "full"))
    torch.testing.assert_close(local, frequencies("gemma3_text", {}, "sliding_attention_"))
    assert wide[0] == 1 / 8
    by_layer = {"rope_scaling": {"sliding_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}}}
    torch.testing.assert_close(frequencies("gemma3_text", by_layer, "sliding_attention_"), local / 4)


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"type": "linaer", "factor": 2.0}, "unknown type 'linaer'"),
        ({"type": "linear"}, "rope_scaling: .*factor"),
        ({"type": "llama3", "factor": 8.0}, "rope_scaling: .*low_freq_factor"),
        (2.0, "expected a mapping"),
    ],
)
def test_scaling_that_cannot_be(scaling: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        override(tiny_config("llama"), {"rope_scaling": scaling})
    assert caught.value.exit_code == 2


def test_a_setting_that_the_model_does_not_have(caplog: pytest.LogCaptureFixture) -> None:
    override(tiny_config("llama"), {"sliding_windw": 5})
    assert "model_config.sliding_windw: LlamaConfig has no such setting" in caplog.text


def test_loading_applies_them(tiny_model: Path) -> None:
    lines = "model_config: {rope_scaling: {type: yarn, factor: 2.0}}"
    model_config = load_model_config(config_of(f"base_model: {tiny_model}\n{lines}"))
    assert model_config.rope_parameters["rope_type"] == "yarn"
    old = load_model_config(config_of(f"base_model: {tiny_model}\nrope_scaling: {{type: yarn, factor: 2.0}}"))
    assert old.rope_parameters == model_config.rope_parameters


@pytest.mark.parametrize("kind", sorted(FIXED))
def test_behind_a_table_of_positions_is_nothing(kind: str) -> None:
    length = {"max_position_embeddings": 32} if kind != "mpt" else {"max_seq_len": 32}
    sizes = {"n_head": 4, "rotary_dim": 4} if kind in ("gptj", "codegen") else {}
    if kind == "gpt_neo":
        sizes = {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
    model = tiny_causal_model(kind, None, **length, **sizes)
    check_length(config_of("sequence_len: 32"), model.config)
    with pytest.raises(ModelError, match="sequence_len 40 is more than the 32 positions of this model"):
        check_length(config_of("sequence_len: 40"), model.config)
    model(input_ids=torch.ones(1, 32, dtype=torch.long), use_cache=False)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.ones(1, 40, dtype=torch.long), use_cache=False)


@pytest.mark.parametrize(
    ("overrides", "length", "warned"),
    [
        ({}, 400, True),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, 400, False),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, TRAINED, False),
    ],
)
def test_rotary_positions_go_on(
    overrides: dict[str, Any], length: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model_config = tiny_config("llama")
    override(model_config, overrides)
    config = config_of("sequence_len: 400")
    check_length(config, model_config)
    model = AutoModelForCausalLM.from_config(model_config)
    with caplog.at_level(logging.WARNING):
        stretch_positions(config, model.config)
    assert model.config.max_position_embeddings == length
    assert ("rope_scaling: {type: yarn, factor: 1.5625}" in caplog.text) is warned
    assert torch.isfinite(model(input_ids=torch.ones(1, 400, dtype=torch.long)).logits).all()


def test_short_sequences_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    for kind in ("llama", "rwkv", "gpt2"):
        model_config = AutoConfig.for_model(kind)
        before = model_config.to_dict()
        check_length(config_of("sequence_len: 128"), model_config)
        stretch_positions(config_of("sequence_len: 128"), model_config)
        assert model_config.to_dict() == before
    assert not caplog.text
