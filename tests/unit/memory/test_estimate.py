"""The parts of an estimate: against numbers worked out by hand, against libraries, and against each other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ftl_config.errors import FtlError
from ftl_config.load import load_text
from ftl_config.memory.advice import advise
from ftl_config.memory.devices import GIB, known_device, parse_device
from ftl_config.memory.estimate import Estimate, estimate
from tests.unit.memory.shapes import LLAMA_3_8B as LLAMA

PARAMETERS = 8_030_261_248
ENDS = 2 * 128256 * 4096
NORMS = (2 * 32 + 1) * 4096
KEYS: dict[str, Any] = {
    "base_model": "org/model",
    "datasets": [{"path": "rows.jsonl", "type": "alpaca"}],
    "learning_rate": 1e-4,
    "sequence_len": 2048,
    "micro_batch_size": 2,
}
LORA = {"adapter": "lora", "lora_r": 16, "lora_target_linear": True}


def of(gpu: str = "H100", **keys: Any) -> Estimate:
    device, count = parse_device(gpu)
    config = load_text(json.dumps({**KEYS, **keys}), statuses=False).config
    return estimate(config, LLAMA, device, count)


def test_a_full_fine_tune_in_bf16() -> None:
    """Weights, gradients and both of Adam's moments in 2 bytes each, as PyTorch keeps them."""
    found = of(gradient_checkpointing=True, gradient_accumulation_steps=2)
    assert found.part("weights") == 2 * PARAMETERS
    assert found.part("gradients") == 2 * PARAMETERS
    assert found.part("optimizer states") == 4 * PARAMETERS
    assert (found.num_parameters, found.num_trained) == (PARAMETERS, PARAMETERS)


def test_a_gpu_without_bf16_takes_fp16_and_float32_is_obeyed() -> None:
    assert of("V100").part("weights") == 2 * PARAMETERS
    assert of(bf16=False).part("weights") == 4 * PARAMETERS


def test_lora_on_every_linear_layer() -> None:
    found = of(**LORA)
    per_layer = 2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336)
    assert found.num_trained == 16 * 32 * per_layer
    assert found.part("adapter weights") == 4 * found.num_trained  # float32: PEFT's autocast_adapter_dtype
    assert found.part("optimizer states") == 8 * found.num_trained


@pytest.mark.parametrize(
    ("keys", "trained"),
    [
        ({"lora_target_modules": ["q_proj", "v_proj"]}, 8 * 32 * (8192 + 5120)),
        ({"lora_target_modules": "model.layers.[01].self_attn.q_proj"}, 8 * 2 * 8192),
        ({"lora_target_modules": ["q_proj"], "peft_layers_to_transform": [3, 5]}, 8 * 2 * 8192),
        ({"lora_target_modules": ["q_proj", "k_proj"], "lora_rank_pattern": {"k_proj": 4}}, 32 * (8 * 8192 + 4 * 5120)),
        ({"lora_target_modules": ["q_proj"], "peft_use_dora": True}, 32 * (8 * 8192 + 4096)),
        ({"lora_target_modules": ["q_proj"], "lora_modules_to_save": ["lm_head"]}, 32 * 8 * 8192 + 128256 * 4096),
    ],
)
def test_adapter_keys(keys: dict[str, Any], trained: int) -> None:
    assert of(adapter="lora", **keys).num_trained == trained


def test_unfrozen_parameters() -> None:
    found = of(unfrozen_parameters=["lm_head.weight", "model.layers.3[01].mlp"])
    assert found.num_trained == 128256 * 4096 + 2 * 3 * 4096 * 14336


def test_quantized_weights() -> None:
    """Linear layers in 4 bits with their constants; embedding, head and norms turned into float32 by PEFT."""
    matrices = PARAMETERS - ENDS - NORMS
    constants = matrices / 64 * (1 + 4 / 256)
    found = of(adapter="qlora", load_in_4bit=True, lora_target_linear=True)
    assert found.part("weights") == pytest.approx(matrices / 2 + constants + 4 * (ENDS + NORMS))


def test_quantization_constants_are_those_of_bitsandbytes() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    import torch

    packed, state = functional.quantize_4bit(torch.randn(512, 1024), quant_type="nf4", compress_statistics=True)
    taken = packed.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
    values = 512 * 1024
    assert values / 2 + values / 64 * (1 + 4 / 256) == pytest.approx(taken, rel=0.01)


@pytest.mark.parametrize("name", ["adamw_torch", "sgd", "rmsprop", "adagrad", "adafactor", "muon", "adopt_adamw"])
def test_states_are_those_that_optimizers_make(name: str) -> None:
    import torch
    from transformers import Adafactor

    from ftl_config.memory.optimizer_states import state_bytes
    from ftl_config.memory.trained import Trained
    from ftl_runner.trainer.adopt import Adopt
    from ftl_runner.trainer.muon import MuonWithAdamW

    matrix, vector = torch.nn.Parameter(torch.randn(48, 96)), torch.nn.Parameter(torch.randn(4096))
    groups: dict[str, Any] = {"muon": [{"params": [matrix], "use_muon": True}, {"params": [vector], "use_muon": False}]}
    make: dict[str, Any] = {
        "adamw_torch": torch.optim.AdamW,
        "sgd": torch.optim.SGD,
        "rmsprop": torch.optim.RMSprop,
        "adagrad": torch.optim.Adagrad,
        "adafactor": lambda given: Adafactor(given, lr=1e-3, scale_parameter=False, relative_step=False),
        "muon": MuonWithAdamW,
        "adopt_adamw": Adopt,
    }
    optimizer = make[name](groups.get(name, [matrix, vector]))
    (matrix.sum() + vector.sum()).backward()
    optimizer.step()
    tensors = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    taken = sum(tensor.nbytes for tensor in tensors if tensor.numel() > 1)
    config = load_text(json.dumps({**KEYS, "optimizer": name})).config
    assert state_bytes(config, [Trained(48, 96, 1, 4), Trained(4096, 0, 1, 4)]) == taken


@pytest.mark.parametrize(
    ("keys", "weights", "states"),
    [
        ({"deepspeed": "zero1.json"}, 2.0, 12 / 8),
        ({"deepspeed": "zero2.json"}, 2.0, 12 / 8),
        ({"deepspeed": "zero3_bf16.json"}, 2 / 8, 12 / 8),
        ({"deepspeed": "zero3_bf16_cpuoffload_params.json"}, 0.0, None),
        ({"deepspeed": "zero3_bf16_cpuoffload_all.json"}, 0.0, 0.0),
        ({"fsdp_version": 2, "fsdp_config": {"reshard_after_forward": True}}, 4 / 8, 8 / 8),
        ({}, 2.0, 4.0),
    ],
)
def test_sharding(keys: dict[str, Any], weights: float, states: float | None) -> None:
    """Bytes a parameter on each of 8 GPUs; DeepSpeed keeps float32 weights beside those in bf16."""
    found = of("H100:8", gradient_checkpointing=True, **keys)
    assert found.part("weights") / PARAMETERS == pytest.approx(weights)
    if states is not None:
        assert found.part("optimizer states") / PARAMETERS == pytest.approx(states)


def test_ddp_holds_gradients_twice() -> None:
    found = of("H100:8", **LORA)
    assert found.part("communication") == 4 * found.num_trained


def test_a_reference_model_only_without_an_adapter() -> None:
    assert of(rl="dpo").part("reference model") == 2 * PARAMETERS
    assert of(rl="dpo", **LORA).part("reference model") == 0
    assert of(rl="simpo").part("reference model") == 0
    assert of(rl="dpo").batch.rows == 2 * of().batch.rows


def test_what_saves_memory_saves_it() -> None:
    plain = of(**LORA).peak_bytes
    for keys in (
        {"gradient_checkpointing": True},
        {"micro_batch_size": 1},
        {"sequence_len": 1024},
        {"load_in_4bit": True, "adapter": "qlora"},
        {"attn_implementation": "flash_attention_2"},
        {"liger_fused_linear_cross_entropy": True},
    ):
        assert of(**{**LORA, **keys}).peak_bytes < plain, keys
    assert of(optimizer="adamw_8bit").peak_bytes < of(optimizer="adamw_torch_fused").peak_bytes
    assert of(**LORA, lora_dropout=0.1).peak_bytes > plain
    assert of(**LORA, attn_implementation="eager").peak_bytes > plain


@pytest.mark.parametrize(
    ("gpu", "keys"),
    [
        ("A10G", {}),
        ("A10G", LORA),
        ("A10G:4", LORA),
        ("A100-80GB:8", {"gradient_checkpointing": True}),
        ("T4", {**LORA, "micro_batch_size": 16, "sample_packing": True}),
        ("L4", {**LORA, "adapter": "qlora", "load_in_4bit": True, "batch_size": 8}),
    ],
)
def test_advice_is_of_valid_keys_with_their_effect(gpu: str, keys: dict[str, Any]) -> None:
    loaded = load_text(json.dumps({**KEYS, **keys}))
    device, count = parse_device(gpu)
    now = estimate(loaded.config, LLAMA, device, count)
    advice = advise(loaded, LLAMA, now)
    assert len(advice) == 3
    assert [one.saved_bytes for one in advice] == sorted((one.saved_bytes for one in advice), reverse=True)
    for one in advice:
        changed = load_text(json.dumps({**KEYS, **keys, **one.changes}))
        then = estimate(changed.config, LLAMA, device, count).peak_bytes
        assert then == pytest.approx(one.peak_bytes)
        assert one.saved_bytes == pytest.approx(now.peak_bytes - then)


def test_fewer_rows_are_made_up_for() -> None:
    loaded = load_text(json.dumps({**KEYS, **LORA, "micro_batch_size": 8, "gradient_accumulation_steps": 2}))
    device, _ = parse_device("A100")
    (one,) = (
        one
        for one in advise(loaded, LLAMA, estimate(loaded.config, LLAMA, device, 1), count=9)
        if "micro_batch_size" in one.changes
    )
    assert one.changes["micro_batch_size"] * one.changes["gradient_accumulation_steps"] == 16


def test_devices() -> None:
    assert parse_device("a100-80gb:8")[1] == 8
    assert known_device("H100") is not None
    assert known_device("h100").memory_bytes == pytest.approx(80 * GIB, rel=0.01)  # type: ignore[union-attr]
    with pytest.raises(FtlError, match="not known") as caught:
        parse_device("A100-80G")
    assert caught.value.hint == "did you mean `A100-80GB`?"
    assert caught.value.exit_code == 2
    for text in ("H100:0", ":8", "H100:x"):
        with pytest.raises(FtlError):
            parse_device(text)
