"""Each optimizer takes real steps on a tiny model, at the learning rates that the keys say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from ftl_config import FtlError
from ftl_config.optimizers import OPTIMIZERS, optimizer_package
from ftl_runner.models.adapter import add_adapter
from ftl_runner.trainer.adopt import Adopt
from ftl_runner.trainer.arguments import make_arguments, make_schedule
from ftl_runner.trainer.configured import OptimizerFromConfig
from ftl_runner.trainer.optimizers import check_optimizer
from tests.unit.runner.snippets import CPU, config_of, tiny_llama

HERE = sorted(name for name in OPTIMIZERS if optimizer_package(name) is None)
BITSANDBYTES = sorted(name for name in OPTIMIZERS if (optimizer_package(name) or ("",))[0] == "bitsandbytes")
ABSENT = sorted(OPTIMIZERS - set(HERE) - set(BITSANDBYTES))


def trainer_of(lines: str, folder: Path, steps: int = 4) -> OptimizerFromConfig:
    """A trainer of a tiny model on two rows again and again."""
    torch.manual_seed(0)
    config = config_of(
        f"{lines}\noutput_dir: {folder}\nmax_steps: {steps}\nmicro_batch_size: 2\nwarmup_steps: 0\nsave_strategy: no\n"
        "logging_steps: 1"
    )
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randint(0, 50, (8,), generator=generator) for _ in range(2)]
    rows = [{"input_ids": row, "labels": row} for row in tokens] * steps
    arguments = make_arguments(config, CPU, make_schedule(config, len(rows), 1))
    model = add_adapter(tiny_llama(), config)
    return OptimizerFromConfig(config=config, model=model, args=arguments, train_dataset=rows)


def losses_of(trainer: OptimizerFromConfig, **options: Any) -> list[float]:
    trainer.train(**options)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("name", HERE)
def test_optimizer_learns(name: str, tmp_path: Path) -> None:
    if name in ("adamw_torch_xla", "adamw_torch_npu_fused"):
        pytest.skip("needs another device")
    losses = losses_of(trainer_of(f"optimizer: {name}\nlearning_rate: 1e-2", tmp_path))
    assert losses[-1] < losses[0] - 0.01


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("name", BITSANDBYTES)
def test_optimizer_of_bitsandbytes_learns(name: str, tmp_path: Path) -> None:
    losses = losses_of(trainer_of(f"optimizer: {name}\nlearning_rate: 1e-2", tmp_path))
    assert losses[-1] < losses[0] - 0.01


@pytest.mark.parametrize("name", ABSENT)
def test_missing_package_is_named(name: str) -> None:
    module, package = optimizer_package(name) or ("", "")
    if importlib.util.find_spec(module) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(FtlError, match=f"optimizer: {name} needs the package {package}") as caught:
        check_optimizer(config_of(f"optimizer: {name}\noptim_target_modules: all-linear"))
    assert caught.value.exit_code == 2


def test_muon_takes_the_matrices_and_resumes(tmp_path: Path) -> None:
    lines = "optimizer: muon\nlearning_rate: 1e-2\nweight_decay: 0.1\noptim_args: {momentum: 0.9}\nadam_beta2: 0.95"
    whole = losses_of(trainer_of(lines, tmp_path, steps=6))
    first = trainer_of(lines, tmp_path, steps=6)
    first.args.save_strategy, first.args.save_steps = "steps", 3
    first.create_optimizer()
    muon = [group for group in first.optimizer.param_groups if group["use_muon"]]
    rest = [group for group in first.optimizer.param_groups if not group["use_muon"]]
    assert {p.ndim for group in muon for p in group["params"]} == {2}
    assert sum(len(group["params"]) for group in muon) == 14  # 7 linear layers in each of 2 layers
    assert {p.shape for group in rest for p in group["params"]} == {(50, 16), (16,)}
    assert {group["momentum"] for group in muon} == {0.9}
    assert {group["betas"] for group in rest} == {(0.9, 0.95)}
    assert sorted(group["weight_decay"] for group in rest) == [0.0, 0.1]
    first.train()
    second = trainer_of(lines, tmp_path, steps=6)
    resumed = losses_of(second, resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert resumed == pytest.approx(whole, rel=1e-6)


def test_unknown_argument_of_an_optimizer() -> None:
    with pytest.raises(FtlError, match="optim_args: muon has no argument 'momentun'") as caught:
        check_optimizer(config_of("optimizer: muon\noptim_args: momentun=0.9"))
    assert "momentum" in (caught.value.hint or "")


def test_adopt_follows_the_paper() -> None:
    """Algorithm 2 of arXiv:2411.02853 by hand, for three steps of one weight."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = Adopt([weight], lr=0.1, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.5)
    for gradient in (2.0, 1.0, -8.0):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
    expected, second, momentum = 1.0, 4.0, 0.0  # the first step sets the second moment alone
    for step, gradient in ((1, 1.0), (2, -8.0)):
        limit = step**0.25
        momentum = 0.9 * momentum + 0.1 * max(-limit, min(limit, gradient / second**0.5))
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * momentum
        second = 0.99 * second + 0.01 * gradient**2
    assert weight.item() == pytest.approx(expected)


def rates_of(lines: str, folder: Path) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each trained parameter."""
    trainer = trainer_of(f"learning_rate: 0.1\nweight_decay: 0.01\n{lines}", folder)
    optimizer = trainer.create_optimizer()
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    found = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert set(found) == {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert optimizer.param_groups[0]["lr"] == 0.1  # the rate that is logged
    return found


def test_weight_decay_spares_norms(tmp_path: Path) -> None:
    rates = rates_of("optimizer: adamw_torch", tmp_path)
    assert {decay for name, (_, decay) in rates.items() if "norm" in name} == {0.0}
    assert {decay for name, (_, decay) in rates.items() if "norm" not in name} == {0.01}


@pytest.mark.parametrize(("key", "rate"), [("embedding_lr: 0.02", 0.02), ("embedding_lr_scale: 0.5", 0.05)])
def test_embedding_rate(key: str, rate: float, tmp_path: Path) -> None:
    rates = rates_of(key, tmp_path)
    embeddings = {"model.embed_tokens.weight", "lm_head.weight"}
    assert {name: rates.pop(name) for name in embeddings} == dict.fromkeys(embeddings, (rate, 0.0))
    assert {lr for lr, _ in rates.values()} == {0.1}


def test_embedding_rate_beside_an_adapter(tmp_path: Path) -> None:
    rates = rates_of("embedding_lr: 0.02\nadapter: lora\nlora_modules_to_save: [embed_tokens]", tmp_path)
    (embedding,) = [name for name in rates if "modules_to_save" in name]
    assert rates.pop(embedding) == (0.02, 0.0)
    assert set(rates.values()) == {(0.1, 0.01)}


def test_loraplus(tmp_path: Path) -> None:
    lines = "adapter: lora\nlora_target_linear: true\nlora_target_modules: [embed_tokens]\nloraplus_lr_ratio: 16\n"
    rates = rates_of(lines + "loraplus_lr_embedding: 1e-3", tmp_path)
    for name, found in rates.items():
        expected = 1e-3 if "lora_embedding" in name else 0.1 * 16 if "lora_B" in name else 0.1
        assert found == pytest.approx((expected, 0.01)), name
    assert len({rate for rate, _ in rates.values()}) == 3


def test_lr_groups(tmp_path: Path) -> None:
    lines = "lr_groups:\n- {name: attention, modules: [self_attn.q_proj, o_proj], lr: 0.03}\n"
    rates = rates_of(lines + "- {name: first, modules: [layers.0.mlp], lr: 0.0}", tmp_path)
    for name, (rate, _) in rates.items():
        chosen = 0.03 if "q_proj" in name or "o_proj" in name else 0.0 if "layers.0.mlp" in name else 0.1
        assert rate == chosen, name


def test_groups_of_a_rate_of_zero_stay(tmp_path: Path) -> None:
    """A rate by group is not only a number in a table: what has rate 0 does not move, its neighbours do."""
    trainer = trainer_of("learning_rate: 1e-2\nlr_groups: [{name: x, modules: [layers.0], lr: 0.0}]", tmp_path)
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, parameter in trainer.model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name in before if "layers.0" not in name}


def test_group_that_matches_nothing(tmp_path: Path) -> None:
    with pytest.raises(FtlError, match=r"lr_groups 'x': no trained parameter has 'qproj' in its name") as caught:
        rates_of("lr_groups: [{name: x, modules: [qproj], lr: 0.1}]", tmp_path)
    assert "q_proj" in (caught.value.hint or "")


def test_gradients_are_clipped(tmp_path: Path) -> None:
    """With plain descent at rate 1 the step is the gradient, cut to the norm that was asked for."""
    trainer = trainer_of("optimizer: sgd\nlearning_rate: 1\nmax_grad_norm: 0.01\nlr_scheduler: constant", tmp_path, 1)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.train()
    steps = [(new - old).flatten() for new, old in zip(trainer.model.parameters(), before, strict=True)]
    assert torch.cat(steps).norm().item() == pytest.approx(0.01, rel=1e-3)
