"""Learning-rate schedules: those of transformers, and the ones that only Axolotl's keys name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from ftl_config import Config

Factor = Callable[[int], float]
"""Step (from 0) to share of the peak learning rate."""

OWN_SCHEDULES = frozenset({"one_cycle", "rex"})


def warmup_steps(config: Config, total_steps: int) -> int:
    """Steps over which the rate rises; 3 % of all steps and at most 100 where neither key is set, as in Axolotl."""
    keys = config.training
    if keys.warmup_steps is not None:
        return int(keys.warmup_steps)
    if keys.warmup_ratio is not None:
        return math.ceil(keys.warmup_ratio * total_steps)
    return min(int(0.03 * total_steps), 100)


def schedule_arguments(config: Config, total_steps: int) -> dict[str, Any]:
    """What ``TrainingArguments`` takes; a schedule of ours is made by ``make_scheduler`` from the same keys."""
    keys = config.training
    name, kwargs = str(keys.lr_scheduler), dict(keys.lr_scheduler_kwargs or {})
    if name in OWN_SCHEDULES:
        name, kwargs = "constant", {}
    elif keys.cosine_min_lr_ratio is not None and name == "cosine":
        name, kwargs = "cosine_with_min_lr", {**kwargs, "min_lr_rate": keys.cosine_min_lr_ratio}
    return {
        "lr_scheduler_type": name,
        "lr_scheduler_kwargs": kwargs or None,
        "warmup_steps": warmup_steps(config, total_steps),
    }


def is_own_schedule(config: Config) -> bool:
    """Whether transformers alone cannot make it."""
    keys = config.training
    cosine = keys.lr_scheduler == "cosine" and (keys.lr_quadratic_warmup or keys.cosine_constant_lr_ratio is not None)
    return cosine or keys.lr_scheduler in OWN_SCHEDULES or keys.jagged_restart_steps is not None


def check_schedule(config: Config, total_steps: int) -> None:
    """Make the schedule once for nothing, so that an argument it does not take is said before the model is loaded.

    Raises:
        FtlError: naming the schedule and what it said.
    """
    import torch

    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=config.training.learning_rate, momentum=0.9)
    try:
        make_scheduler(config, optimizer, total_steps)
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0].rpartition(") ")[2]
        raise FtlError(
            f"lr_scheduler: {config.training.lr_scheduler} cannot be made: {reason}",
            "check lr_scheduler_kwargs against the schedule's arguments",
            exit_code=2,
        ) from error


def make_scheduler(config: Config, optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The schedule of the configuration; each parameter group keeps its own peak (``group["lr"]``).

    Raises:
        TypeError, ValueError: ``lr_scheduler_kwargs`` has an argument that the schedule does not take.
        FtlError: restarts on a schedule that cannot be restarted.
    """
    from torch.optim.lr_scheduler import LambdaLR

    scheduler = _plain_scheduler(config, optimizer, total_steps)
    if config.training.jagged_restart_steps is None:
        return scheduler
    if not isinstance(scheduler, LambdaLR):
        name = config.training.lr_scheduler
        raise FtlError(f"jagged_restart_steps: {name} is not a function of the step alone", exit_code=2)
    restarts = jagged_factor(config)
    scheduler.lr_lambdas = [_product(factor, restarts) for factor in scheduler.lr_lambdas]  # equal at step 0
    return scheduler


def _plain_scheduler(config: Config, optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The schedule without restarts."""
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import get_scheduler

    keys, warmup = config.training, warmup_steps(config, total_steps)
    floor = keys.cosine_min_lr_ratio or 0.0
    if keys.lr_scheduler == "one_cycle":
        return _one_cycle(config, optimizer, warmup, total_steps)
    if keys.lr_scheduler == "rex":
        return LambdaLR(optimizer, rex_factor(warmup, total_steps, floor))
    if keys.lr_scheduler == "cosine" and (keys.lr_quadratic_warmup or keys.cosine_constant_lr_ratio is not None):
        end = total_steps if keys.cosine_constant_lr_ratio is None else int(total_steps * keys.cosine_constant_lr_ratio)
        return LambdaLR(optimizer, cosine_factor(warmup, end, floor, 2 if keys.lr_quadratic_warmup else 1))
    made = schedule_arguments(config, total_steps)
    return get_scheduler(  # type: ignore[no-any-return]
        made["lr_scheduler_type"],
        optimizer,
        num_warmup_steps=warmup,
        num_training_steps=total_steps,
        scheduler_specific_kwargs=made["lr_scheduler_kwargs"],
    )


def cosine_factor(warmup: int, end: int, floor: float, warmup_power: int = 1) -> Factor:
    """A warm-up of the given power, then half a cosine from 1 to ``floor`` at step ``end``, then ``floor``.

    Source: cosine with a constant tail, arXiv:2308.04014.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return float((step / warmup) ** warmup_power)
        progress = min(1.0, (step - warmup) / max(1, end - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def rex_factor(warmup: int, total: int, floor: float) -> Factor:
    """Reflected exponential (arXiv:2107.04197): (1 - t) / (1 - 0.9 t), after a linear warm-up.

    The paper has 1/2 in place of 0.9; 0.9 is what Axolotl trains with, which holds the rate up for longer.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        left = max(0.0, 1 - (step - warmup) / max(1, total - warmup))
        return floor + (1 - floor) * left / (0.1 + 0.9 * left)

    return factor


def jagged_factor(config: Config) -> Factor:
    """The tooth of a schedule that starts anew every ``jagged_restart_steps`` (ReLoRA, arXiv:2307.05695).

    Before a restart the rate falls to ``cosine_min_lr_ratio`` (0.001 when that is not set) of the schedule over
    ``jagged_restart_anneal_steps`` (1), after it it rises again over ``jagged_restart_warmup_steps`` (10). The first
    tooth rises with the schedule's own warm-up.
    """
    keys = config.training
    assert keys.jagged_restart_steps is not None
    length = keys.jagged_restart_steps
    warmup, anneal = keys.jagged_restart_warmup_steps or 10, keys.jagged_restart_anneal_steps or 1
    floor = keys.cosine_min_lr_ratio or 0.001

    def factor(step: int) -> float:
        if step < length - anneal:
            return 1.0
        within = step % length
        share = 1.0
        if within < warmup:
            share = within / warmup
        elif within > length - anneal:
            share = (length - within) / anneal
        return floor + (1 - floor) * share

    return factor


def _product(first: Factor, second: Factor) -> Factor:
    return lambda step: first(step) * second(step)


def _one_cycle(config: Config, optimizer: Optimizer, warmup: int, total_steps: int) -> LRScheduler:
    """PyTorch's ``OneCycleLR`` (arXiv:1708.07120); the rise takes the warm-up steps."""
    from torch.optim.lr_scheduler import OneCycleLR

    keys = config.training
    options: dict[str, Any] = {"pct_start": warmup / total_steps, "anneal_strategy": "cos"}
    if keys.lr_div_factor is not None:
        options["div_factor"] = keys.lr_div_factor
    # The cycle of the momentum runs against that of the rate, in optimizers that have one.
    options["cycle_momentum"] = bool({"betas", "momentum"} & set(getattr(optimizer, "defaults", {})))
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(
        optimizer, max_lr=peaks, total_steps=total_steps, **options | dict(keys.lr_scheduler_kwargs or {})
    )
