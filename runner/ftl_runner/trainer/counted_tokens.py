"""TRL's trainers, with the tokens of their batches counted as in supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from transformers import Trainer

from ftl_runner.trainer.step_record import RecordsSteps
from ftl_runner.trainer.token_trainer import TokenCount


class CountedTokens(RecordsSteps, Trainer):  # type: ignore[misc]
    """Beside a trainer whose batches have attention masks: ``class X(OptimizerFromConfig, CountedTokens, Trainer)``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        model: Any = kwargs.get("model")
        types = [] if model is None else [(p, p.dtype) for p in model.parameters() if p.requires_grad]
        super().__init__(*args, **kwargs)
        for parameter, dtype in types:
            # On a quantized base TRL turns what is trained into bfloat16, whatever the configuration says.
            parameter.data = parameter.data.to(dtype)
        self.token_count = TokenCount(record=self.step_record)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of one optimizer step; their tokens without padding are counted."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            if not isinstance(batch, Mapping):
                continue  # prompts, whose answers are not there yet: the trainer counts both as it trains on them
            # KTO's mismatched answers (KL_...) are the batch's own once more.
            masks = [m for name, m in batch.items() if name.endswith("attention_mask") and not name.startswith("KL_")]
            self.token_count.add(sum(mask.sum() for mask in masks), 0)
        return batches, num_items

    def _send_telemetry(self) -> None:
        """TRL reports the model's architecture and the machine to its makers; nothing of a run leaves it here."""
