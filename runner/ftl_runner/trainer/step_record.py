"""What a step was made of, for whoever has to explain why it failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import Trainer

from ftl_runner.out_of_memory import BATCH_ATTRIBUTE


@dataclass
class StepRecord:
    """Micro batches of the step at hand, and their losses as tensors: reading one waits for the device."""

    batches: list[Any] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)

    def begin(self, batches: list[Any]) -> None:
        self.batches, self.losses = batches, []


class RecordsSteps(Trainer):  # type: ignore[misc]
    """Beside Trainer or one of its kin: ``class SftTrainer(RecordsSteps, Trainer)``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.step_record = StepRecord()
        super().__init__(*args, **kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        batches, trained = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step_record.begin(batches)
        return batches, trained

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        try:
            loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        except (RuntimeError, MemoryError) as error:
            if shape := _shape(inputs):
                setattr(error, BATCH_ATTRIBUTE, shape)
            raise
        self.step_record.losses.append(loss)
        return loss


def _shape(inputs: Any) -> tuple[int, int] | None:
    """Rows and length of a batch; of its largest ids where it has several."""
    shapes = [
        tuple(value.shape)
        for name, value in (inputs.items() if hasattr(inputs, "items") else ())
        if name.endswith("input_ids") and getattr(value, "ndim", 0) == 2
    ]
    return max(shapes, key=lambda shape: shape[0] * shape[1], default=None)
