"""``launch.max_hours`` and ``launch.max_cost``: the run saves and stops when its time on the machines is over."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftl_config.errors import FtlError
from ftl_config.protocol import EventType
from ftl_runner.checkpoints.attempts import note_seen, seconds_before
from ftl_runner.context import RunContext

_NOTE_EVERY_S = 60.0
_HOUR_S = 3600.0


class StopAtTimeLimit(TrainerCallback):  # type: ignore[misc]
    """Counts the time of all attempts on the main rank, and asks for a stop once it is over."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._limit_s = context.job.max_hours * _HOUR_S if context.job.max_hours else None
        self._started = context.job.started_at or context.job.created_at
        self._before_s = 0.0
        self._noted = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._context.ranks.is_main and self._limit_s is not None:
            self._before_s = seconds_before(self._context.store, self._context.identity.attempt)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not self._context.ranks.is_main:
            return
        now = time.time()
        if now - self._noted > _NOTE_EVERY_S:
            self._note(now)
        if self._limit_s is not None and self._before_s + now - self._started > self._limit_s:
            self._stop()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._context.ranks.is_main:
            self._note(time.time())

    def _note(self, now: float) -> None:
        self._noted = now
        with contextlib.suppress(FtlError):  # a minute that is not written down ends no run
            note_seen(self._context.store, self._context.identity.attempt, now=now)

    def _stop(self) -> None:
        if not self._context.stop.requested:
            hours = self._context.job.max_hours
            message = f"the limit of {hours:.3g} hours is reached: stopping with a checkpoint"
            self._context.events.emit(EventType.PHASE, phase="save", message=message)
        self._context.stop.request(at_limit=True)
