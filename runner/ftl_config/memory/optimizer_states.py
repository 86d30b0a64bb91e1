"""What optimizers remember of each trained value, and what they need while they step.

Sources: the state that the classes of torch.optim, transformers, bitsandbytes and torchao make.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ftl_config.memory.number_formats import FLOAT32
from ftl_config.memory.trained import Trained

if TYPE_CHECKING:
    from ftl_config.schema.config import Config

_BLOCK = 256
"""Values that share a constant in bitsandbytes' and torchao's 8-bit states."""
_SMALL = 4096
"""bitsandbytes leaves tensors up to this size in 32 bits."""
_EIGHT_BITS = 1 + FLOAT32 / _BLOCK
_FOUR_BITS = 0.5 + FLOAT32 / 128

_FIXED = {
    "adamw_8bit": (2, _EIGHT_BITS),
    "adamw_bnb_8bit": (2, _EIGHT_BITS),
    "paged_adamw_8bit": (2, _EIGHT_BITS),
    "adamw_torch_8bit": (2, _EIGHT_BITS),
    "ao_adamw_8bit": (2, _EIGHT_BITS),
    "ao_adamw_fp8": (2, _EIGHT_BITS),
    "adamw_torch_4bit": (2, _FOUR_BITS),
    "ao_adamw_4bit": (2, _FOUR_BITS),
    "paged_adamw_32bit": (2, FLOAT32),
    "lion": (1, FLOAT32),
    "lion_32bit": (1, FLOAT32),
    "paged_lion_32bit": (1, FLOAT32),
    "lion_8bit": (1, _EIGHT_BITS),
    "paged_lion_8bit": (1, _EIGHT_BITS),
    "ademamix": (3, FLOAT32),
    "paged_ademamix_32bit": (3, FLOAT32),
    "ademamix_8bit": (3, _EIGHT_BITS),
    "paged_ademamix_8bit": (3, _EIGHT_BITS),
    "rmsprop_bnb": (1, FLOAT32),
    "rmsprop_bnb_32bit": (1, FLOAT32),
    "rmsprop_bnb_8bit": (1, _EIGHT_BITS),
}
"""Moments, and bytes of one, whatever the type of the weight."""
_OF_WEIGHT_TYPE = {
    "sgd": 0,
    "adagrad": 1,
    "rmsprop": 1,
    "lomo": 0,
    "adalomo": 0,
    "schedule_free_sgd": 1,
    "grokadamw": 3,
}
"""Moments in the type of the weight, for those that have other than Adam's two."""
_LOW_RANK = ("galore", "apollo")
_LOW_RANK_DEFAULT = 128


def state_bytes(config: Config, groups: Iterable[Trained], *, size: int | None = None) -> float:
    """Bytes of an optimizer's state; ``size`` is that of the values it works on where those are copies."""
    return sum(_of_group(config, group, group.size if size is None else size) for group in groups)


def _of_group(config: Config, group: Trained, size: float) -> float:
    name = config.training.optimizer
    if name in _FIXED:
        moments, per_value = _FIXED[name]
        return group.count * moments * (FLOAT32 if group.numel < _SMALL else per_value)
    if name in ("adafactor", "came_pytorch", "galore_adafactor"):
        factors = group.rows + group.columns if group.columns else group.rows
        first = group.numel if name == "came_pytorch" else 0
        sets = 2 if name == "came_pytorch" else 1
        return group.copies * (FLOAT32 * factors * sets + size * first)
    if name == "muon":
        return group.count * size * (1 if group.columns and not group.last else 2)
    if name.startswith(_LOW_RANK) and group.columns:
        rank = min(_LOW_RANK_DEFAULT, group.rows, group.columns)
        return group.copies * size * rank * (group.rows + 2 * group.columns)
    moments = _OF_WEIGHT_TYPE.get(name, 2)
    if name == "sgd" and "momentum" in str(config.training.optim_args or ""):
        moments = 1
    return group.count * size * moments


def step_bytes(config: Config, groups: Iterable[Trained], *, is_gpu: bool, size: int | None = None) -> float:
    """Bytes that an optimizer takes and gives back while it steps."""
    groups = list(groups)
    name = config.training.optimizer
    sizes = [(group, group.size if size is None else size) for group in groups]
    if name == "adamw_torch_fused" or name in _FIXED:
        return 0.0
    if is_gpu and name in ("adamw_torch", "sgd", "rmsprop", "adagrad"):  # all tensors at a time
        return sum(group.count * each for group, each in sizes) if name != "sgd" else 0.0
    return 2 * max((group.numel * each for group, each in sizes), default=0.0)
