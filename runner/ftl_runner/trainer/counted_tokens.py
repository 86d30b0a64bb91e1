"""TRL's trainers, with the tokens of their batches counted as in supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import Trainer

from ftl_runner.trainer.token_trainer import TokenCount


class CountedTokens(Trainer):  # type: ignore[misc]
    """Beside a trainer whose batches have attention masks: ``class X(OptimizerFromConfig, CountedTokens, Trainer)``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.token_count = TokenCount()

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of one optimizer step; their tokens without padding are counted."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            # KTO's mismatched answers (KL_...) are the batch's own once more.
            masks = [m for name, m in batch.items() if name.endswith("attention_mask") and not name.startswith("KL_")]
            self.token_count.add(sum(mask.sum() for mask in masks), 0)
        return batches, num_items
