"""Loss watchdog: end a run that has diverged before it costs more."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftl_config.errors import FtlError

DEFAULT_PATIENCE = 3


class LossWatchdog(TrainerCallback):  # type: ignore[misc]
    """Raise once the logged loss was above ``threshold``, or not a number, ``patience`` times in a row.

    The Trainer logs the mean over all ranks on every rank, so that all of them stop at the same step.
    """

    def __init__(self, threshold: float, patience: int | None) -> None:
        self._threshold = threshold
        self._patience = patience or DEFAULT_PATIENCE
        self._violations = 0

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if "loss" not in logs:
            return
        loss = logs["loss"]
        # Also true of NaN, which compares with nothing.
        self._violations = 0 if loss <= self._threshold else self._violations + 1
        if self._violations >= self._patience:
            raise FtlError(
                f"loss_watchdog: at step {state.global_step} the loss is {loss:.4g}, and it was above "
                f"{self._threshold:g} for {self._violations} logged steps in a row",
                "lower learning_rate or raise warmup_steps; the checkpoints saved so far are kept",
            )
