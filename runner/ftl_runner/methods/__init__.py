"""Training methods by name. A new one is one module with ``run(context) -> Outcome`` and one line here."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING

from ftl_config.errors import FtlError
from ftl_runner.context import Outcome, RunContext

if TYPE_CHECKING:
    from ftl_config import Config

METHODS = {
    "dpo": "ftl_runner.methods.dpo",
    "ipo": "ftl_runner.methods.dpo",
    "kto": "ftl_runner.methods.kto",
    "orpo": "ftl_runner.methods.orpo",
    "sft": "ftl_runner.methods.sft",
    "simpo": "ftl_runner.methods.simpo",
    "reward_model": "ftl_runner.methods.reward_model",
    "process_reward_model": "ftl_runner.methods.process_reward_model",
    "grpo": "ftl_runner.methods.grpo",
    "gdpo": "ftl_runner.methods.grpo",
}

_WITHOUT_TRL = ("sft", "process_reward_model")


def method_name(config: Config) -> str:
    """``process_reward_model``, ``reward_model``, the value of ``rl``, or ``sft``."""
    preference = config.preference
    if preference.process_reward_model or preference.reward_model:
        return "process_reward_model" if preference.process_reward_model else "reward_model"
    return preference.rl or "sft"


def load_method(name: str) -> Callable[[RunContext], Outcome]:
    """The ``run`` function of a method; its module is imported only now.

    Raises:
        FtlError: there is no such method (the launcher's rules say so first), or TRL is not installed.
    """
    if name not in METHODS:
        raise FtlError(f"not yet supported: training with {name}", f"known are {', '.join(METHODS)}", exit_code=2)
    if name not in _WITHOUT_TRL and importlib.util.find_spec("trl") is None:
        raise FtlError(f"{name} needs the package trl", "pip install 'ftl-tune[preference]'", exit_code=2)
    run: Callable[[RunContext], Outcome] = importlib.import_module(METHODS[name]).run
    return run
