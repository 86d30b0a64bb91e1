"""Every kind of adapter trains on a CPU: what should move moves, nothing else does, what is saved computes the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig

from ftl_config import Config
from ftl_runner.models.adapter import add_adapter
from ftl_runner.models.errors import ModelError
from ftl_runner.models.freeze import freeze_all_but
from ftl_runner.models.plain_lora import write_plain_lora
from ftl_runner.models.precision import Precision
from ftl_runner.models.quantization import keep_differentiable, quantization_config
from ftl_runner.trainer.arguments import make_arguments, make_schedule
from ftl_runner.trainer.configured import OptimizerFromConfig
from tests.unit.runner.snippets import CPU, config_of, tiny_llama
from tests.unit.runner.tiny_models import tiny_causal_model

SIZES = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
TOKENS = torch.arange(2, 42).reshape(2, 20)
QUANTIZED = "adapter: qlora\nload_in_4bit: true\n"

Pair = tuple[str, set[str]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of three layers."""
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    save_random(LlamaConfig(vocab_size=50, **SIZES), folder)
    return folder


def save_random(settings: Any, folder: Path) -> None:
    """Weights five times as large as usual, so that an adapter on a random model has something to work with."""
    model: Any = AutoModelForCausalLM.from_config(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    model.save_pretrained(folder)


def configured(base: Path, folder: Path, lines: str, steps: int = 4) -> Config:
    return config_of(
        f"base_model: {base}\noutput_dir: {folder}\nlora_r: 4\nlearning_rate: 3e-2\nmax_steps: {steps}\n"
        f"micro_batch_size: 2\nwarmup_steps: 0\nsave_strategy: no\nlogging_steps: 1\n{lines}"
    )


def load(base: Path, config: Config, precision: Precision = CPU) -> Any:
    quantization = quantization_config(config, precision)
    options = {} if quantization is None else {"quantization_config": quantization, "device_map": {"": "cpu"}}
    model = AutoModelForCausalLM.from_pretrained(base, dtype=precision.load_dtype, **options)
    if config.adapter.load_in_4bit:
        keep_differentiable(model)
    return model


def train(base: Path, config: Config) -> tuple[Any, set[str], list[float]]:
    """The trained model, the names of the parameters that moved, and the losses."""
    torch.manual_seed(1)
    model = add_adapter(load(base, config), config)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    arguments = make_arguments(config, CPU, make_schedule(config, 64, 1))
    rows = [{"input_ids": TOKENS[0], "labels": TOKENS[0]}] * 64
    trainer = OptimizerFromConfig(config=config, model=model, args=arguments, train_dataset=rows)
    trainer.train()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    trainer.save_model(str(config.checkpointing.output_dir))
    return model, moved, losses


def logits_of(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(TOKENS).logits  # type: ignore[no-any-return]


ADAPTERS = [
    "adapter: lora",
    QUANTIZED,
    "adapter: lora\nload_in_8bit: true",
    "adapter: lora\npeft_use_dora: true",
    "adapter: lora\npeft_init_lora_weights: pissa",
    "adapter: lora\nlora_modules_to_save: [embed_tokens, lm_head]",
]
MORE_ADAPTERS = [
    QUANTIZED + "bnb_4bit_use_double_quant: false\nbnb_4bit_quant_type: fp4",
    QUANTIZED + "bnb_4bit_compute_dtype: bfloat16",
    QUANTIZED + "gradient_checkpointing: true",
    QUANTIZED + "peft_use_dora: true",
    "adapter: lora\npeft_use_rslora: true\ngradient_checkpointing: true",
    "adapter: lora\npeft_init_lora_weights: gaussian",
    "adapter: lora\npeft_init_lora_weights: orthogonal",
    "adapter: lora\npeft_init_lora_weights: pissa_niter_4\npeft_use_rslora: true",
    "adapter: lora\npeft_init_lora_weights: olora\nlora_rank_pattern: {q_proj: 2}\nlora_alpha_pattern: {k_proj: 4}",
    "adapter: lora\nlora_target_modules: [q_proj]\nlora_target_parameters: [k_proj.weight]",
    "adapter: lora\nlora_target_modules: [embed_tokens]\nlora_target_linear: true\nloraplus_lr_ratio: 4",
    "adapter: lora\nlora_target_modules: [q_proj]\npeft_layers_to_transform: [0, 2]\npeft_layers_pattern: [layers]",
]


@pytest.mark.parametrize(
    "lines", [*ADAPTERS, *(pytest.param(lines, marks=pytest.mark.slow) for lines in MORE_ADAPTERS)]
)
def test_adapter_learns_and_reloads(lines: str, base: Path, tmp_path: Path) -> None:
    config = configured(base, tmp_path, lines)
    model, moved, losses = train(base, config)
    assert losses[-1] < losses[0] - 0.1
    assert moved
    assert all("lora_" in name or "modules_to_save" in name for name in moved), moved
    write_plain_lora(model, tmp_path)
    again = PeftModel.from_pretrained(load(base, config), tmp_path)
    assert (logits_of(again) - logits_of(model)).abs().max() < 2e-4


def test_weights_are_really_quantized(base: Path, tmp_path: Path) -> None:
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    config = configured(base, tmp_path, QUANTIZED)
    layer = add_adapter(load(base, config), config).base_model.model.model.layers[0].self_attn.q_proj.base_layer
    assert isinstance(layer, Linear4bit)
    assert layer.weight.dtype == torch.uint8
    assert layer.weight.numel() == 64 * 64 / 2
    assert (layer.weight.quant_state.quant_type, layer.weight.quant_state.nested) == ("nf4", True)
    config = configured(base, tmp_path, "adapter: lora\nload_in_8bit: true")
    layer = add_adapter(load(base, config), config).base_model.model.model.layers[0].self_attn.q_proj.base_layer
    assert isinstance(layer, Linear8bitLt)
    assert layer.weight.dtype == torch.int8


def test_plain_lora_of_a_pissa_run(base: Path, tmp_path: Path) -> None:
    """Also without PEFT's help: base plus scale times B A is what the trained layer has."""
    config = configured(base, tmp_path, "adapter: lora\nlora_alpha: 6\npeft_init_lora_weights: pissa")
    model, _, _ = train(base, config)
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    trained = layer.base_layer.weight + layer.get_delta_weight("default")
    write_plain_lora(model, tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["init_lora_weights"]) == (8, 12, True)
    plain = PeftModel.from_pretrained(load(base, config), tmp_path).base_model.model.model.layers[0].self_attn.q_proj
    untouched = load(base, config).model.layers[0].self_attn.q_proj.weight
    assert torch.equal(plain.base_layer.weight, untouched)
    assert torch.allclose(untouched + plain.get_delta_weight("default"), trained, atol=1e-5)


def layers_with_adapter(lines: str) -> set[str]:
    torch.manual_seed(0)
    model = add_adapter(tiny_llama(), config_of(f"adapter: lora\n{lines}"))
    return {
        name.removeprefix("base_model.model.model.layers.").partition(".lora_")[0]
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


LINEAR = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"} | {
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
}
TARGETS: list[Pair] = [
    ("lora_target_linear: true", {f"{layer}.{name}" for layer in (0, 1) for name in LINEAR}),
    ("lora_target_modules: [q_proj]", {"0.self_attn.q_proj", "1.self_attn.q_proj"}),
    ("lora_target_modules: .*layers\\.1\\..*(q|v)_proj", {"1.self_attn.q_proj", "1.self_attn.v_proj"}),
    ("lora_target_modules: [q_proj]\npeft_layers_to_transform: [1]", {"1.self_attn.q_proj"}),
    (
        "lora_target_modules: [q_proj]\npeft_layers_to_transform: [0]\npeft_layers_pattern: [layers]",
        {"0.self_attn.q_proj"},
    ),
    ("lora_target_linear: true\nlora_exclude_modules: .*(mlp|layers.0).*", {f"1.{n}" for n in LINEAR if "attn" in n}),
]


@pytest.mark.parametrize(("lines", "expected"), TARGETS)
def test_which_layers_get_an_adapter(lines: str, expected: set[str]) -> None:
    assert layers_with_adapter(lines) == expected


@pytest.mark.parametrize(
    ("lines", "excluded"),
    [
        ("", {"dt_proj"}),
        ("lora_target_linear: true\nlora_exclude_modules: [q_proj]", {"dt_proj", "q_proj"}),
        ("lora_target_linear: true\nlora_exclude_modules: .*q_proj", {"dt_proj", "q_proj"}),
        ("lora_target_modules: [dt_proj, q_proj]", set()),
    ],
)
def test_no_adapter_where_the_model_passes_the_layer_by(lines: str, excluded: set[str]) -> None:
    """Jamba multiplies with dt_proj's weight itself: an adapter in that layer would never be run."""
    model = tiny_causal_model("jamba", num_experts=2, attn_layer_period=2, attn_layer_offset=1)
    adapted = add_adapter(model, config_of(f"adapter: lora\n{lines}"))
    targeted = {name.rpartition(".")[2] for name in adapted.base_model.targeted_module_names}
    assert targeted
    assert {"dt_proj", "q_proj"} - targeted == excluded


def test_ranks_and_scales_by_pattern() -> None:
    lines = "lora_r: 4\nlora_alpha: 8\nlora_rank_pattern: {q_proj: 2}\nlora_alpha_pattern: {'layers.1.*': 16}"
    model = add_adapter(tiny_llama(), config_of(f"adapter: lora\nlora_target_modules: [q_proj, k_proj]\n{lines}"))
    layers = model.base_model.model.model.layers
    found = [(layer.self_attn.q_proj.r["default"], layer.self_attn.q_proj.scaling["default"]) for layer in layers]
    assert found == [(2, 8 / 2), (2, 16 / 2)]
    assert layers[1].self_attn.k_proj.r["default"] == 4


UNKNOWN: list[tuple[str, str, str]] = [
    (
        "lora_target_modules: [q_proj, qproj]",
        "lora_target_modules: 'qproj' names no module",
        "mean `q_proj`? its",
    ),
    ("lora_target_modules: .*qproj", "lora_target_modules: '.*qproj' names no module", "q_proj"),
    ("lora_modules_to_save: [embed]", "lora_modules_to_save: 'embed' names no module", "embed_tokens"),
    (
        "lora_target_parameters: [experts.up]",
        "lora_target_parameters: 'experts.up' names no parameter",
        "mlp.up_proj.weight",
    ),
    ("lora_rank_pattern: {qproj: 2}", "lora_rank_pattern: 'qproj' matches no module", "q_proj"),
    ("lora_alpha_pattern: {qproj: 2}", "lora_alpha_pattern: 'qproj' matches no module", "q_proj"),
    ("lora_target_modules: [q_proj]\npeft_layers_to_transform: [1, 7]", "there is no layer 7", "0 to 1"),
]


@pytest.mark.parametrize(("lines", "message", "hint"), UNKNOWN)
def test_names_that_the_model_does_not_have(lines: str, message: str, hint: str) -> None:
    with pytest.raises(ModelError) as caught:
        layers_with_adapter(lines)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 2


def test_experts_of_a_mixture(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {**SIZES, "num_key_value_heads": 2, "num_local_experts": 2, "num_hidden_layers": 1}
    save_random(MixtralConfig(vocab_size=50, **sizes), tmp_path / "base")
    lines = "adapter: lora\nlora_target_parameters: [mlp.experts.gate_up_proj, mlp.experts.down_proj]"
    config = configured(tmp_path / "base", tmp_path / "out", lines)
    model, moved, losses = train(tmp_path / "base", config)
    assert losses[-1] < losses[0] - 0.1
    assert len(moved) == 4  # A and B of two tensors of experts
    assert all("experts" in name and "lora_" in name for name in moved)
    again = PeftModel.from_pretrained(load(tmp_path / "base", config), tmp_path / "out")
    assert (logits_of(again) - logits_of(model)).abs().max() < 2e-4


def test_going_on_with_an_adapter(base: Path, tmp_path: Path) -> None:
    """``lora_model_dir``: training starts where the adapter was, and trains it further."""
    first, _, losses = train(base, configured(base, tmp_path / "first", "adapter: lora"))
    config = configured(base, tmp_path / "second", f"adapter: lora\nlora_model_dir: {tmp_path / 'first'}")
    config = config.model_copy(update={"training": config.training.model_copy(update={"learning_rate": 1e-3})})
    start = add_adapter(load(base, config), config)
    assert torch.equal(logits_of(start), logits_of(first))
    _, moved, more = train(base, config)
    assert more[0] < losses[0] - 0.05
    assert more[-1] < more[0]
    assert all("lora_" in name for name in moved)


@pytest.mark.parametrize("lines", ["", "adapter: lora\nlora_modules_to_save: [embed_tokens]", QUANTIZED])
def test_noise_on_the_embeddings_while_training(lines: str, base: Path, tmp_path: Path) -> None:
    """NEFTune (arXiv:2310.05914): uniform, of at most alpha / sqrt(length x width), in training alone."""
    config = configured(base, tmp_path, f"neftune_noise_alpha: 5\n{lines}", steps=2)
    model = add_adapter(load(base, config), config)
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()  # what comes out is the noise, until the first step
    seen: list[torch.Tensor] = []
    decoder = model.base_model.model.model if config.adapter.adapter else model.model
    decoder.layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    rows = [{"input_ids": TOKENS[0], "labels": TOKENS[0]}] * 8
    arguments = make_arguments(config, CPU, make_schedule(config, 8, 1), 1)
    trainer = OptimizerFromConfig(config=config, model=model, args=arguments, train_dataset=rows, eval_dataset=rows[:1])
    trainer.train()
    most = 5 / (20 * 64) ** 0.5
    assert 0.9 * most < seen[0].abs().max() <= most
    assert not torch.equal(seen[0][0], seen[0][1])
    trainer.evaluate()
    assert torch.equal(seen[-1][0], model.get_input_embeddings()(TOKENS[0]))


UNFROZEN: list[Pair] = [
    ("unfrozen_parameters: ['^lm_head.weight$']", {"lm_head.weight"}),
    (
        "unfrozen_parameters: ['model.layers.[12]+.mlp.up_proj']",
        {f"model.layers.{n}.mlp.up_proj.weight" for n in (1, 2)},
    ),
    ("unfrozen_parameters: ['.*embed_tokens']", {"model.embed_tokens.weight"}),
]


@pytest.mark.parametrize(("lines", "expected"), UNFROZEN)
def test_unfrozen_parameters(lines: str, expected: set[str], base: Path, tmp_path: Path) -> None:
    _, moved, losses = train(base, configured(base, tmp_path, lines))
    assert moved == expected
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("optimizer", ["adamw_torch", "muon", "lion_32bit"])
def test_unfrozen_rows(optimizer: str, base: Path, tmp_path: Path) -> None:
    """Row 8 is trained by the first range, 30 to 39 by the second; nothing else moves by a bit."""
    lines = f"unfrozen_parameters: ['^lm_head.weight$[8]', '^lm_head.weight$[30:40]']\noptimizer: {optimizer}"
    before = load(base, configured(base, tmp_path, "adapter: lora")).lm_head.weight
    model, moved, _ = train(base, configured(base, tmp_path, lines))
    assert moved == {"lm_head.weight"}
    changed = (model.lm_head.weight != before).any(dim=1).nonzero().flatten().tolist()
    assert changed == [8, *range(30, 40)]


def test_unfrozen_parameters_that_are_not_there() -> None:
    with pytest.raises(ModelError, match=r"'model\.layer\.1' matches no parameter"):
        freeze_all_but(tiny_llama(), ["model.layer.1"])
    with pytest.raises(ModelError, match=r"lm_head\.weight has rows 0 to 50, not 40 to 60"):
        freeze_all_but(tiny_llama(), ["lm_head.weight[40:60]"])
