"""Training methods by name. A new one is one module with ``run(context) -> Outcome`` and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from ftl_runner.context import Outcome, RunContext

METHODS = {
    "sft": "ftl_runner.methods.sft",
}


def load_method(name: str) -> Callable[[RunContext], Outcome]:
    """The ``run`` function of a method; its module is imported only now."""
    run: Callable[[RunContext], Outcome] = importlib.import_module(METHODS[name]).run
    return run
