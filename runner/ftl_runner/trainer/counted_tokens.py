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
        weights = {} if model is None else {name: p.data for name, p in model.named_parameters() if p.requires_grad}
        super().__init__(*args, **kwargs)
        if model is not None:
            _restore_precision(model, weights)
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


def _restore_precision(model: Any, weights: dict[str, torch.Tensor]) -> None:
    """TRL rounds an adapter on a quantized base to bfloat16, in which small steps are lost; ours stays as it was."""
    for name, parameter in model.named_parameters():
        if name in weights and parameter.dtype != weights[name].dtype:
            parameter.data = weights[name].to(parameter.device)
