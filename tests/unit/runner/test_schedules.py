"""Each schedule's learning rate at the steps that define it, as a run of 100 steps sees it."""

from __future__ import annotations

import math

import pytest
import torch

from ftl_config import FtlError
from ftl_runner.trainer.schedules import check_schedule, make_scheduler, warmup_steps
from tests.unit.runner.snippets import config_of

STEPS = 100
HALF = 0.5 * (1 + math.cos(math.pi * 0.5))


def curve(lines: str, steps: int = STEPS) -> list[float]:
    """The learning rate of each step, and the one that would come after the last."""
    config = config_of(f"learning_rate: 1.0\n{lines}")
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=config.training.learning_rate)
    scheduler = make_scheduler(config, optimizer, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return [*rates, optimizer.param_groups[0]["lr"]]


CURVES: list[tuple[str, dict[int, float]]] = [
    ("lr_scheduler: cosine\nwarmup_steps: 10", {0: 0.0, 5: 0.5, 10: 1.0, 55: HALF, 100: 0.0}),
    ("warmup_ratio: 0.1", {0: 0.0, 10: 1.0, 100: 0.0}),
    ("warmup_steps: 0", {0: 1.0, 50: HALF}),
    ("{}", {0: 0.0, 1: 1 / 3, 3: 1.0}),
    ("warmup_steps: 10\ncosine_min_lr_ratio: 0.1", {5: 0.5, 10: 1.0, 55: 0.1 + 0.9 * HALF, 100: 0.1}),
    (
        "warmup_steps: 10\ncosine_min_lr_ratio: 0.2\ncosine_constant_lr_ratio: 0.6",
        {5: 0.5, 10: 1.0, 35: 0.2 + 0.8 * HALF, 60: 0.2, 80: 0.2, 100: 0.2},
    ),
    ("warmup_steps: 10\ncosine_constant_lr_ratio: 0.6", {35: HALF, 60: 0.0, 100: 0.0}),
    ("warmup_steps: 10\nlr_quadratic_warmup: true", {5: 0.25, 10: 1.0, 55: HALF, 100: 0.0}),
    ("warmup_steps: 10\nlr_quadratic_warmup: true\ncosine_min_lr_ratio: 0.1", {5: 0.25, 100: 0.1}),
    ("lr_scheduler: linear\nwarmup_steps: 10", {5: 0.5, 10: 1.0, 55: 0.5, 100: 0.0}),
    ("lr_scheduler: constant", {0: 1.0, 100: 1.0}),
    ("lr_scheduler: constant_with_warmup\nwarmup_steps: 10", {0: 0.0, 5: 0.5, 10: 1.0, 100: 1.0}),
    ("lr_scheduler: polynomial\nwarmup_steps: 10\nlr_scheduler_kwargs: {power: 2}", {10: 1.0, 55: 0.25, 100: 1e-7}),
    ("lr_scheduler: inverse_sqrt\nwarmup_steps: 25", {25: 1.0, 100: 0.5}),
    (
        "lr_scheduler: cosine_with_restarts\nwarmup_steps: 0\nlr_scheduler_kwargs: {num_cycles: 2}",
        {0: 1.0, 25: HALF, 50: 1.0, 75: HALF, 100: 0.0},
    ),
    (
        "lr_scheduler: warmup_stable_decay\nwarmup_steps: 10\nlr_scheduler_kwargs: {num_decay_steps: 40}",
        {5: 0.5, 10: 1.0, 60: 1.0, 80: HALF, 100: 0.0},
    ),
    ("lr_scheduler: rex\nwarmup_steps: 10", {5: 0.5, 10: 1.0, 55: 0.5 / 0.55, 100: 0.0}),
    ("lr_scheduler: rex\nwarmup_steps: 10\ncosine_min_lr_ratio: 0.1", {55: 0.1 + 0.9 * 0.5 / 0.55, 100: 0.1}),
    ("lr_scheduler: one_cycle\nwarmup_steps: 30", {0: 1 / 25, 29: 1.0, 99: 1 / 25 / 1e4}),
    ("lr_scheduler: one_cycle\nwarmup_steps: 30\nlr_div_factor: 10", {0: 0.1, 29: 1.0}),
    ("lr_scheduler: one_cycle\nwarmup_steps: 0", {0: 0.999753, 99: 1 / 25 / 1e4}),
    (
        "lr_scheduler: constant\njagged_restart_steps: 40\n"
        "jagged_restart_warmup_steps: 8\njagged_restart_anneal_steps: 4",
        {0: 1.0, 36: 1.0, 38: 0.001 + 0.999 / 2, 40: 0.001, 44: 0.001 + 0.999 / 2, 48: 1.0, 80: 0.001},
    ),
    (
        "lr_scheduler: linear\nwarmup_steps: 0\njagged_restart_steps: 40\ncosine_min_lr_ratio: 0.1",
        {0: 1.0, 39: 0.61, 40: 0.06, 50: 0.5, 80: 0.02},
    ),
]


@pytest.mark.parametrize(("lines", "expected"), CURVES, ids=lambda value: value if isinstance(value, str) else "")
def test_curve(lines: str, expected: dict[int, float]) -> None:
    rates = curve("" if lines == "{}" else lines)
    assert {step: rates[step] for step in expected} == pytest.approx(expected, abs=1e-6)


def test_each_group_keeps_its_own_peak() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.25)]
    for lines in ("lr_scheduler: rex", "lr_scheduler: one_cycle", "jagged_restart_steps: 50"):
        optimizer = torch.optim.AdamW([dict(group) for group in groups])
        scheduler = make_scheduler(config_of(f"learning_rate: 1.0\nwarmup_steps: 4\n{lines}"), optimizer, STEPS)
        for _ in range(20):
            optimizer.step()
            scheduler.step()
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert second == pytest.approx(first / 4), lines
        assert first > 0.5


def test_resumed_schedule_goes_on_where_it_was() -> None:
    whole = curve("lr_scheduler: linear\nwarmup_steps: 0\njagged_restart_steps: 40")
    config = config_of("learning_rate: 1.0\nlr_scheduler: linear\nwarmup_steps: 0\njagged_restart_steps: 40")
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make_scheduler(config, optimizer, STEPS)
    for _ in range(42):
        optimizer.step()
        scheduler.step()
    weights, state = optimizer.state_dict(), scheduler.state_dict()
    again = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    resumed = make_scheduler(config, again, STEPS)
    again.load_state_dict(weights)
    resumed.load_state_dict(state)
    assert again.param_groups[0]["lr"] == whole[42]
    again.step()
    resumed.step()
    assert again.param_groups[0]["lr"] == whole[43]


def test_warm_up_steps() -> None:
    asked = {"seed: 1": 30, "warmup_steps: 0": 0, "warmup_steps: 7": 7, "warmup_ratio: 0.051": 51}
    assert {lines: warmup_steps(config_of(lines), 1000) for lines in asked} == asked
    assert warmup_steps(config_of("seed: 1"), 10_000) == 100


def test_argument_that_a_schedule_does_not_take() -> None:
    config = config_of("lr_scheduler: linear\nlr_scheduler_kwargs: {power: 2}")
    with pytest.raises(
        FtlError, match=r"lr_scheduler: linear cannot be made: .*unexpected keyword argument 'power'"
    ) as caught:
        check_schedule(config, STEPS)
    assert caught.value.exit_code == 2
