"""When quantization-aware training begins to pretend."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftl_runner.models.fake_quantization import pretend


class PretendQuantized(TrainerCallback):  # type: ignore[misc]
    """``fake_quant_after_n_steps``: the first steps are trained without rounding; also where a run was resumed."""

    def __init__(self, first_step: int) -> None:
        self._first_step = first_step
        self._on: bool | None = None

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        on = state.global_step >= self._first_step
        if on != self._on:
            pretend(model, on=on)
            self._on = on
