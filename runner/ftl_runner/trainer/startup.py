"""Where the time before the first step went: imports, Ray, data, model, and what Trainer and DeepSpeed set up."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftl_config.protocol import EventType
from ftl_runner.context import RunContext


class StartupPhases(TrainerCallback):  # type: ignore[misc]
    """Adds ``engine`` (from here to the loop) and ``first_step`` to the clock, and says all phases once."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._since: float | None = time.monotonic()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._record("engine")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._since is None:
            return
        self._record("first_step")
        self._since = None
        context = self._context
        total = time.time() - context.job.created_at
        # Samples of the base model, compiling DeepSpeed's ops: whatever has no phase of its own.
        context.clock.record("other", max(0.0, total - sum(context.clock.startup_seconds().values())))
        seconds = context.clock.startup_seconds()
        parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
        context.events.emit(
            EventType.PHASE, phase="train", message=f"first step after {total:.1f} s ({parts})", startup_s=seconds
        )

    def _record(self, phase: str) -> None:
        assert self._since is not None
        self._context.clock.record(phase, time.monotonic() - self._since)
        self._since = time.monotonic()
