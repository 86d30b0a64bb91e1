"""``unfrozen_parameters``: train some parameters, or some rows of them, and freeze the rest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ftl_config.unfrozen import Unfrozen, parse_unfrozen
from ftl_runner.models.errors import ModelError

Rows = tuple[int, int]
"""First row, and the row after the last."""


def freeze_all_but(model: Any, patterns: Sequence[str]) -> None:
    """Freeze every parameter that no pattern matches from the beginning of its name.

    A pattern that ends in ``[from:to]`` trains those rows alone: the gradient of the others is set to zero.

    Raises:
        ModelError: a pattern that matches no parameter, or rows that a matched parameter does not have.
    """
    parsed = [(pattern, parse_unfrozen(pattern)) for pattern in patterns]
    names = [name for name, _ in model.named_parameters()]
    for pattern, unfrozen in parsed:
        if not any(unfrozen.regex.match(name) for name in names):
            ends = sorted({re.sub(r"\.\d+\.", ".0.", name) for name in names})
            raise ModelError(
                f"unfrozen_parameters: {pattern!r} matches no parameter", f"there are {', '.join(ends)}", 2
            )
    for name, parameter in model.named_parameters():
        matching = [unfrozen for _, unfrozen in parsed if unfrozen.regex.match(name)]
        parameter.requires_grad_(bool(matching))
        ranges = [_rows(unfrozen, name, len(parameter)) for unfrozen in matching if unfrozen.first is not None]
        if ranges and len(ranges) == len(matching):  # a pattern without a range trains all rows
            parameter.register_hook(_keep_rows(ranges))


def _rows(unfrozen: Unfrozen, name: str, size: int) -> Rows:
    first, last = unfrozen.first or 0, size if unfrozen.last is None else unfrozen.last
    if not first < last <= size:
        raise ModelError(f"unfrozen_parameters: {name} has rows 0 to {size}, not {first} to {last}", exit_code=2)
    return first, last


def _keep_rows(ranges: list[Rows]) -> Any:
    """A gradient hook that zeroes all rows outside the ranges."""
    import torch

    def hook(gradient: Any) -> Any:
        kept = torch.zeros_like(gradient)
        for first, last in ranges:
            kept[first:last] = gradient[first:last]
        return kept

    return hook
