"""Reward functions by dotted path: ``trl: {reward_funcs: [my_rewards.short_answers]}``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ftl_runner.data.errors import DataError
from ftl_runner.data.formats.python_path import import_object, no_module

if TYPE_CHECKING:
    from ftl_config import Config

RewardFunction: TypeAlias = Callable[..., list[float | None]]
"""Called with ``prompts``, ``completions`` and the columns of the data by name; one reward a completion."""

_KEY = "trl.reward_funcs"


def load_reward_functions(config: Config) -> list[RewardFunction | str]:
    """The functions of ``trl.reward_funcs``, in order; a name with a slash stays one: a reward model on the hub.

    Raises:
        DataError: none are named, or one cannot be imported.
    """
    trl = config.preference.trl
    names = (trl.reward_funcs if trl else None) or ()
    if not names:
        raise DataError(
            f"rl: {config.preference.rl} needs {_KEY}", "name functions by their path: reward_funcs: [my_rewards.score]"
        )
    return [name if "/" in name else _import(name) for name in names]


def _import(path: str) -> Any:
    return import_object(path, _KEY, no_module(_KEY))
