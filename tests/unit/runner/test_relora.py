"""ReLoRA: a restart changes what is trained, not what is computed, and can be made again from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, TrainerCallback

from ftl_runner.merge import merge_lora
from ftl_runner.models.adapter import add_adapter
from ftl_runner.models.errors import ModelError
from ftl_runner.models.plain_lora import write_plain_lora
from ftl_runner.models.precision import Precision
from ftl_runner.models.relora import MergedAdapters
from ftl_runner.trainer.arguments import make_arguments, make_schedule
from ftl_runner.trainer.configured import OptimizerFromConfig
from ftl_runner.trainer.relora import ReloraRestarts, prune_state
from tests.unit.runner.snippets import CPU
from tests.unit.runner.test_adapters_train import QUANTIZED, configured, load, logits_of, save_random
from tests.unit.runner.test_merge import with_method
from tests.unit.runner.tiny_models import words_tokenizer

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
LORA = "adapter: lora\nrelora: true\njagged_restart_steps: 50\nlora_modules_to_save: [embed_tokens]\n"
KINDS = {
    "in full": LORA,
    "rank-stabilised, by pattern": LORA + "peft_use_rslora: true\nlora_rank_pattern: {q_proj: 2}\n",
    "on the CPU": LORA + "relora_cpu_offload: true\n",
    "4 bits": QUANTIZED + LORA.removeprefix("adapter: lora\n"),
    "8 bits": LORA + "load_in_8bit: true\n",
}
BF16 = Precision(torch.bfloat16, bf16=True, fp16=False, tf32=None, use_cpu=True)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    save_random(LlamaConfig(vocab_size=50, **SIZES), folder)
    words_tokenizer(50).save_pretrained(folder)
    return folder


def train_a_little(model: Any, seed: int) -> None:
    """As a tooth of training would leave the adapter."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def restarted(base: Path, folder: Path, lines: str, precision: Precision = CPU) -> tuple[Any, Any, MergedAdapters]:
    """A model after two restarts and part of a third tooth."""
    config = configured(base, folder, lines)
    torch.manual_seed(3)
    model = add_adapter(load(base, config, precision), config)
    adapters = MergedAdapters(model, config)
    for number in range(3):
        if number:
            adapters.merge()
        train_a_little(model, number)
    return config, model, adapters


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", KINDS)
def test_logits_are_the_same_after_a_restart(name: str, base: Path, tmp_path: Path) -> None:
    config, model, adapters = restarted(base, tmp_path, KINDS[name])
    before, layer = logits_of(model), model.base_model.model.model.layers[0].self_attn.q_proj
    with model.disable_adapter():
        effect = (logits_of(model) - before).abs().max()
    assert effect > 0.3
    first = layer.lora_A["default"].weight.clone()
    adapters.merge()
    assert not layer.lora_B["default"].weight.any()
    assert not torch.equal(layer.lora_A["default"].weight, first)
    assert adapters.count == 3
    if "bits" not in name:
        assert difference(logits_of(model), before) < 1e-5
        return
    # A quantized base rounds what it is given: by as much as it rounded the released base.
    model.save_pretrained(tmp_path)
    write_plain_lora(model, tmp_path)
    released = AutoModelForCausalLM.from_pretrained(base)
    rounding = difference(logits_of(load(base, config)), logits_of(released))
    whole = logits_of(PeftModel.from_pretrained(released, tmp_path))
    assert 0 < difference(logits_of(model), whole) < 1.5 * rounding
    assert difference(whole, before) < 1.5 * rounding


@pytest.mark.parametrize("precision", [CPU, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", ["in full", "4 bits", "8 bits"])
def test_base_is_made_again_bit_by_bit(name: str, precision: Precision, base: Path, tmp_path: Path) -> None:
    config, model, adapters = restarted(base, tmp_path, KINDS[name], precision)
    adapters.write(tmp_path / "checkpoint")
    model.save_pretrained(tmp_path / "checkpoint")
    more = config.adapter.model_copy(update={"lora_model_dir": str(tmp_path / "checkpoint")})
    again = add_adapter(load(base, config, precision), config.model_copy(update={"adapter": more}))
    assert torch.equal(logits_of(again), logits_of(model))
    # What follows is the same too: the next restart draws the same adapter.
    others = MergedAdapters(again, config)
    assert others.count == 2
    adapters.merge()
    others.merge()
    assert torch.equal(logits_of(again), logits_of(model))
    one, two = (each.base_model.model.model.layers[1].mlp.up_proj.lora_A["default"].weight for each in (model, again))
    assert torch.equal(one, two)


@pytest.mark.parametrize("name", ["in full", "rank-stabilised, by pattern"])
def test_what_is_saved_is_one_lora_on_the_released_base(name: str, base: Path, tmp_path: Path) -> None:
    config, model, _ = restarted(base, tmp_path, KINDS[name])
    model.save_pretrained(tmp_path)
    write_plain_lora(model, tmp_path)
    expected = logits_of(model)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path)
    assert (logits_of(plain) - expected).abs().max() < 2e-4
    for method in ("memory_efficient", "legacy"):
        merged = merge_lora(with_method(config, method))
        assert (logits_of(AutoModelForCausalLM.from_pretrained(merged)) - expected).abs().max() < 2e-4


def test_checkpoint_is_merged_too(base: Path, tmp_path: Path) -> None:
    config, model, adapters = restarted(base, tmp_path, KINDS["in full"])
    model.save_pretrained(tmp_path / "checkpoint-7")
    adapters.write(tmp_path / "checkpoint-7")
    adapter = config.adapter.model_copy(update={"lora_model_dir": str(tmp_path / "checkpoint-7")})
    merged = merge_lora(config.model_copy(update={"adapter": adapter}))
    assert (logits_of(AutoModelForCausalLM.from_pretrained(merged)) - logits_of(model)).abs().max() < 2e-4


def test_weights_stored_the_other_way_round(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_random(GPT2Config(vocab_size=50, n_embd=64, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2), tmp_path)
    lines = "relora: true\njagged_restart_steps: 50\nlora_fan_in_fan_out: true\nlora_target_linear: true\n"
    for more, tolerance in (("adapter: lora\n", 1e-5), (QUANTIZED, 0.4)):  # a transposed weight makes more than 1
        _, model, adapters = restarted(tmp_path, tmp_path / "out", more + lines)
        before = logits_of(model)
        adapters.merge()
        assert difference(logits_of(model), before) < tolerance


def test_layers_that_cannot_be_merged(base: Path, tmp_path: Path) -> None:
    config = configured(base, tmp_path, "adapter: lora\nlora_target_modules: [embed_tokens]")
    with pytest.raises(ModelError, match=r"relora: model\.embed_tokens is not a linear layer"):
        MergedAdapters(add_adapter(load(base, config), config), config)
    model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=50, **SIZES, tie_word_embeddings=True))
    config = configured(base, tmp_path, "adapter: lora\nlora_target_modules: [lm_head]")
    with pytest.raises(ModelError, match="lm_head shares its weights"):
        MergedAdapters(add_adapter(model, config), config)


def stepped(optimizer_class: Any, size: int = 8) -> tuple[Any, list[Any]]:
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(size, size)) for _ in range(2)]
    optimizer = optimizer_class(parameters, lr=1e-3, weight_decay=0.0)
    for _ in range(3):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return optimizer, parameters


@pytest.mark.parametrize(("method", "ratio"), [("magnitude", 0.75), ("random", 0.5), ("reset", 0.999)])
def test_optimizer_forgets_a_share(method: str, ratio: float) -> None:
    optimizer, (forgotten, kept) = stepped(torch.optim.AdamW, size=40)
    before = {name: value.clone() for name, value in optimizer.state[kept].items()}
    old = optimizer.state[forgotten]["exp_avg_sq"].clone()
    prune_state(optimizer, [forgotten], method, ratio, seed=5)
    for name in ("exp_avg", "exp_avg_sq"):
        value = optimizer.state[forgotten][name]
        assert (value == 0).float().mean().item() == pytest.approx(ratio, abs=0.05)
    left = optimizer.state[forgotten]["exp_avg_sq"]
    if method == "magnitude":
        assert left[left > 0].min() >= old[left == 0].max()
    assert torch.equal(left[left > 0], old[left > 0])
    assert optimizer.state[forgotten]["step"] == 3
    assert all(torch.equal(value, before[name]) for name, value in optimizer.state[kept].items())


def test_optimizer_of_8_bits_forgets() -> None:
    from bitsandbytes.optim import AdamW8bit, GlobalOptimManager

    # Another test's Trainer asks for 32 bits for parameters by their id, which one of these may have got.
    GlobalOptimManager.get_instance().initialize()
    optimizer, (forgotten, _) = stepped(AdamW8bit, size=80)  # smaller ones are held in 32 bits
    assert optimizer.state[forgotten]["state1"].dtype == torch.uint8
    prune_state(optimizer, [forgotten], "magnitude", 1.0, seed=5)
    zero = forgotten.detach().clone()
    forgotten.grad = torch.zeros_like(forgotten)
    optimizer.step()
    assert torch.equal(forgotten.detach(), zero)  # without momentum and gradient nothing moves


class Recorder(TrainerCallback):
    """What the first step after a restart finds."""

    def __init__(self) -> None:
        self.zeroed: dict[int, dict[bool, list[float]]] = {}
        self.effect: dict[int, bool] = {}

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        model, optimizer = given["model"], given["optimizer"]
        found: dict[bool, list[float]] = {True: [], False: []}
        for name, parameter in model.named_parameters():
            if parameter in optimizer.state:
                share = (optimizer.state[parameter]["exp_avg"] == 0).float().mean().item()
                found["lora_" in name].append(share)
        self.zeroed[state.global_step] = found
        self.effect[state.global_step] = any(p.any() for name, p in model.named_parameters() if "lora_B" in name)


def test_restarts_in_the_trainer(base: Path, tmp_path: Path) -> None:
    config = configured(base, tmp_path, LORA.replace("50", "3") + "jagged_restart_warmup_steps: 1\n", steps=5)
    torch.manual_seed(0)
    model = add_adapter(load(base, config), config)
    rows = [{"input_ids": torch.arange(2, 22), "labels": torch.arange(2, 22)}] * 16
    arguments = make_arguments(config, CPU, make_schedule(config, 16, 1), 1)
    trainer = OptimizerFromConfig(config=config, model=model, args=arguments, train_dataset=rows)
    context: Any = SimpleNamespace(config=config, output_dir=tmp_path, ranks=SimpleNamespace(is_main=True))
    recorder = Recorder()
    trainer.add_callback(ReloraRestarts(context))
    trainer.add_callback(recorder)
    trainer.train()
    assert recorder.effect == {0: False, 1: True, 2: True, 3: False, 4: True}
    assert min(recorder.zeroed[3][True]) >= 0.89
    assert max(recorder.zeroed[2][True]) < 0.5
    assert max(recorder.zeroed[3][False]) < 0.89  # the embedding trained beside the adapter is not forgotten
