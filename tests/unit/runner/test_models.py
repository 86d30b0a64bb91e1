"""From keys to model, tokenizer, LoraConfig, BitsAndBytesConfig and Liger's kernels."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from ftl_config import Config
from ftl_runner.models.adapter import add_adapter, lora_config
from ftl_runner.models.errors import ModelError
from ftl_runner.models.kernels import liger_arguments, liger_warning
from ftl_runner.models.loader import load_base_model
from ftl_runner.models.quantization import quantization_config
from ftl_runner.models.targets import linear_module_names
from ftl_runner.models.tokenizer import load_tokenizer
from tests.unit.runner.snippets import CPU, config_of, needs_cpu, tiny_llama

LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
LORA: list[tuple[str, dict[str, Any]]] = [
    ("{}", {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": "all-linear", "bias": "none"}),
    ("lora_r: 4\nlora_alpha: 9\nlora_dropout: 0.1", {"r": 4, "lora_alpha": 9, "lora_dropout": 0.1}),
    ("lora_target_modules: [q_proj, v_proj]", {"target_modules": {"q_proj", "v_proj"}}),
    ("lora_target_modules: .*_proj", {"target_modules": ".*_proj"}),
    ("lora_target_linear: true\nlora_target_modules: [q_proj]", {"target_modules": "all-linear"}),
    (
        "lora_target_linear: true\nlora_target_modules: [embed_tokens, q_proj]",
        {"target_modules": {*LINEAR, "embed_tokens"}},
    ),
    (
        "lora_target_linear: true\nlora_target_modules: .*embed_tokens",
        {"target_modules": rf"(?:.*embed_tokens)|(?:.*\.)?(?:{'|'.join(sorted(LINEAR))})"},
    ),
    ("lora_target_parameters: [experts.up]", {"target_parameters": ["experts.up"], "target_modules": set()}),
    ("lora_target_parameters: experts.up", {"target_parameters": ["experts.up"]}),
    (
        "lora_target_parameters: [experts.up]\nlora_target_modules: [q_proj]",
        {"target_parameters": ["experts.up"], "target_modules": {"q_proj"}},
    ),
    ("lora_exclude_modules: [k_proj]", {"exclude_modules": {"k_proj"}}),
    ("lora_exclude_modules: .*k_proj", {"exclude_modules": ".*k_proj"}),
    ("lora_modules_to_save: [lm_head]", {"modules_to_save": ["lm_head"]}),
    ("lora_rank_pattern: {q_proj: 2}", {"rank_pattern": {"q_proj": 2}}),
    ("lora_alpha_pattern: {q_proj: 2}", {"alpha_pattern": {"q_proj": 2}}),
    ("lora_fan_in_fan_out: true", {"fan_in_fan_out": True}),
    ("lora_target_modules: [q_proj]\npeft_layers_to_transform: [0, 2]", {"layers_to_transform": (0, 2)}),
    ("peft_use_dora: true\npeft_use_rslora: true", {"use_dora": True, "use_rslora": True}),
    ("peft_init_lora_weights: gaussian", {"init_lora_weights": "gaussian"}),
    ("peft_layer_replication: [[0, 1], [0, 2]]", {"layer_replication": [(0, 1), (0, 2)]}),
    ("peft_trainable_token_indices: [5, 6]", {"trainable_token_indices": [5, 6]}),
    ("peft_trainable_token_indices: {embed_tokens: [5]}", {"trainable_token_indices": {"embed_tokens": [5]}}),
    ("peft_ensure_weight_tying: true\nlora_modules_to_save: [lm_head]", {"ensure_weight_tying": True}),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), LORA, ids=lambda value: value if isinstance(value, str) else "")
def test_lora(lines: str, expected: dict[str, Any]) -> None:
    made = lora_config(config_of(f"adapter: lora\n{lines if lines != '{}' else ''}"), tiny_llama())
    assert {name: getattr(made, name) for name in expected} == expected


def test_adapter_on_a_model() -> None:
    """What is only seen on a model: layers stacked again, tokens trained, the adapter's type."""
    lines = "adapter: lora\nlora_target_modules: [q_proj]\npeft_layer_replication: [[0, 2], [1, 2]]\n"
    model = add_adapter(tiny_llama(), config_of(lines + "peft_trainable_token_indices: [3]"))
    assert len(model.base_model.model.model.layers) == 3
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("trainable_tokens_delta" in name for name in trained)
    assert all("q_proj" in name or "trainable_tokens" in name for name in trained)


@pytest.mark.parametrize(
    ("lines", "dtype"), [("", torch.float32), ("peft_autocast_adapter_dtype: false", torch.bfloat16)]
)
def test_adapter_type(lines: str, dtype: torch.dtype) -> None:
    model = add_adapter(tiny_llama(torch.bfloat16), config_of(f"adapter: lora\n{lines}"))
    assert {parameter.dtype for name, parameter in model.named_parameters() if "lora_" in name} == {dtype}


def test_unknown_module_is_named_with_those_there_are() -> None:
    with pytest.raises(ModelError) as caught:
        add_adapter(tiny_llama(), config_of("adapter: lora\nlora_target_modules: [qproj]"))
    assert caught.value.hint is not None
    assert "q_proj" in caught.value.hint
    assert linear_module_names(tiny_llama())[0] == "down_proj"


BNB: list[tuple[str, dict[str, Any]]] = [
    ("load_in_8bit: true", {"load_in_8bit": True, "load_in_4bit": False}),
    ("load_in_8bit: true\nbnb_config_kwargs: {llm_int8_threshold: 5.0}", {"llm_int8_threshold": 5.0}),
    ("load_in_4bit: true", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}),
    ("load_in_4bit: true", {"bnb_4bit_compute_dtype": torch.float32}),
    ("load_in_4bit: true\nbnb_4bit_compute_dtype: bfloat16", {"bnb_4bit_compute_dtype": torch.bfloat16}),
    ("load_in_4bit: true\nbnb_4bit_quant_type: fp4\nbnb_4bit_use_double_quant: false", {"bnb_4bit_quant_type": "fp4"}),
    (
        "load_in_4bit: true\nbnb_config_kwargs: {bnb_4bit_quant_type: fp4, bnb_4bit_quant_storage: bfloat16}",
        {"bnb_4bit_quant_type": "fp4", "bnb_4bit_quant_storage": torch.bfloat16},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), BNB)
def test_quantization(lines: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    made = quantization_config(config_of(f"adapter: lora\n{lines}"), CPU)
    assert {name: getattr(made, name) for name in expected} == expected


def test_quantization_refuses_unknown_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ModelError, match="unknown option 'bnb_quant'"):
        quantization_config(config_of("adapter: lora\nload_in_4bit: true\nbnb_config_kwargs: {bnb_quant: 1}"), CPU)
    assert quantization_config(config_of("adapter: lora"), CPU) is None


@needs_cpu
def test_evaluating_leaves_gradients_of_a_quantized_base(tiny_model: Path) -> None:
    """bitsandbytes repacks its weights at the first evaluation on some processors; no gradient passes those."""
    config = model_lines(tiny_model, "adapter: qlora", "load_in_4bit: true")
    model = add_adapter(load_base_model(config, load_tokenizer(config), CPU), config)
    tokens = torch.arange(20)[None]

    def gradients() -> list[torch.Tensor]:
        model.train()
        model.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    before = gradients()
    with torch.no_grad():
        model.eval()(input_ids=tokens)
    after = gradients()
    assert len(before) == len(after) > 0
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_liger_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of("liger_rms_norm: true\nliger_glu_activation: true\nliger_fused_linear_cross_entropy: true")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    made = liger_arguments(config, use_cpu=False)
    on = {name for name, value in made["liger_kernel_config"].items() if value}
    assert made["use_liger_kernel"] is True
    assert on == {"rms_norm", "swiglu", "geglu", "fused_linear_cross_entropy"}
    assert {"rope", "layer_norm", "cross_entropy"} <= set(made["liger_kernel_config"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="liger_rms_norm needs the package liger-kernel"):
        liger_arguments(config, use_cpu=False)


def test_liger_on_a_cpu_is_said_to_do_nothing() -> None:
    config = config_of("plugins: [axolotl.integrations.liger.LigerPlugin]\nliger_rope: true\nliger_layer_norm: true")
    assert liger_arguments(config, use_cpu=True) == {}
    warning = liger_warning(config, "llama", use_cpu=True)
    assert warning is not None
    assert warning.startswith("liger_rope, liger_layer_norm: no effect on a CPU")
    bare = config_of("plugins: [axolotl.integrations.liger.LigerPlugin]")
    assert liger_warning(bare, "llama", use_cpu=True) is None
    assert liger_arguments(bare, use_cpu=False) == {}


def model_lines(folder: Path, *lines: str) -> Config:
    return config_of("\n".join([f"base_model: {folder}", *lines]))


@needs_cpu
def test_model_and_tokenizer_classes(tiny_model: Path) -> None:
    config = model_lines(
        tiny_model, "model_type: LlamaForCausalLM", "cls_model_config: LlamaConfig", "model_config: {rope_theta: 5.0}"
    )
    tokenizer = load_tokenizer(config)
    model = load_base_model(config, tokenizer, CPU)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.use_cache is False
    own = load_tokenizer(model_lines(tiny_model, "tokenizer_type: PreTrainedTokenizerFast", "tokenizer_legacy: false"))
    assert own("Hello")["input_ids"] == tokenizer("Hello")["input_ids"]
    assert own.init_kwargs["legacy"] is False


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("model_type: LamaForCausalLM", "model_type: transformers has no class LamaForCausalLM"),
        ("cls_model_config: LlamaConfg", "cls_model_config: transformers has no class LlamaConfg"),
        ("model_kwargs: {no_such: 1}", "cannot load the model .*no_such"),
    ],
)
def test_what_does_not_exist_is_said(line: str, message: str, tiny_model: Path) -> None:
    config = model_lines(tiny_model, line)
    with pytest.raises(ModelError, match=message):
        load_base_model(config, load_tokenizer(config), CPU)
    with pytest.raises(ModelError, match="tokenizer_type: transformers has no class LamaTokenizer"):
        load_tokenizer(model_lines(tiny_model, "tokenizer_type: LamaTokenizer"))


def test_model_kwargs_win(tiny_model: Path) -> None:
    config = model_lines(tiny_model, "model_kwargs: {dtype: bfloat16, attn_implementation: eager}")
    model = load_base_model(config, load_tokenizer(config), CPU)
    assert next(model.parameters()).dtype == torch.bfloat16
    assert model.config._attn_implementation == "eager"


def test_embeddings_grow(tiny_model: Path) -> None:
    plain = load_tokenizer(model_lines(tiny_model))
    added = "tokens: ['<a>', '<b>', '<c>']"
    for lines, rows in (((added,), len(plain) + 3), ((added, "resize_token_embeddings_to_32x: true"), None)):
        config = model_lines(tiny_model, *lines)
        model = load_base_model(config, load_tokenizer(config), CPU)
        expected = rows or math.ceil((len(plain) + 3) / 32) * 32
        assert model.get_input_embeddings().weight.shape[0] == expected


@pytest.mark.parametrize("mean", [True, False])
def test_new_rows_are_drawn_as_asked(mean: bool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(
        LlamaForCausalLM, "resize_token_embeddings", lambda self, n, mean_resizing: asked.append(mean_resizing)
    )
    config = model_lines(tiny_model, "tokens: ['<a>']", f"mean_resizing_embeddings: {str(mean).lower()}")
    load_base_model(config, load_tokenizer(config), CPU)
    assert asked == [mean]


def test_prompt_ratio_cuts_text_without_a_question(tiny_model: Path, tmp_path: Path) -> None:
    from ftl_runner.data import sample_prompts

    text = "one two three four five six seven eight"
    (tmp_path / "a.jsonl").write_text(f'{{"text": "{text}"}}\n')
    tokenizer = load_tokenizer(model_lines(tiny_model))
    lengths = []
    for ratio in (0.25, 0.75):
        lines = f"datasets: [{{path: {tmp_path / 'a.jsonl'}, type: completion}}]", f"generation_prompt_ratio: {ratio}"
        (sample,) = sample_prompts(model_lines(tiny_model, *lines), tokenizer, 1)
        assert sample.prompt.endswith(sample.question)
        assert (sample.prompt + sample.answer).endswith(text)
        lengths.append(len(tokenizer(sample.question)["input_ids"]))
    assert lengths == [2, 6]
