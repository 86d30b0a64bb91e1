"""transformers' Trainer, with every loss a mean over trained tokens, and tokens counted.

What transformers does right by itself: the training loss is divided by the trained tokens of the global batch (micro
batches x accumulation x ranks). What is added here: the same for models that take no ``num_items_in_batch``; an
evaluation loss over tokens in place of batches; no key-value cache, which would let packed sequences see each other;
the output head at trained positions only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer
from transformers.loss.loss_utils import ForCausalLMLoss

from ftl_runner.data.encode import IGNORE_INDEX
from ftl_runner.trainer.configured import OptimizerFromConfig
from ftl_runner.trainer.step_record import RecordsSteps, StepRecord
from ftl_runner.trainer.trained_positions import TrainedPositions

if TYPE_CHECKING:
    from transformers.trainer_utils import EvalLoopOutput


@dataclass
class TokenCount:
    """Tokens of this rank's batches without padding, and trained tokens of all ranks, since the process began."""

    seen: Any = 0
    """An int, or a tensor that is read only when somebody asks: reading it waits for the device."""
    trained: Any = 0
    record: StepRecord = field(default_factory=StepRecord)
    """The step at hand."""

    def add(self, seen: Any, trained: Any) -> None:
        self.seen = self.seen + seen
        self.trained = self.trained + trained


class TokenTrainer(RecordsSteps, Trainer):  # type: ignore[misc]
    """The Trainer of every method with next-token cross-entropy.

    Args:
        trained_positions_only: compute logits only where a label is trained; the same loss and gradients.
    """

    def __init__(self, *args: Any, trained_positions_only: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.token_count = TokenCount(record=self.step_record)
        self._evaluated: list[torch.Tensor] | None = None
        if not self.model_accepts_loss_kwargs:
            self.compute_loss_func = _causal_loss
        self._positions = None
        if trained_positions_only and self.compute_loss_func is None:
            self._positions = TrainedPositions.of(self.model)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of one optimizer step, and the trained tokens in them over all ranks."""
        batches, trained = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts = [batch.pop("num_tokens") for batch in batches if "num_tokens" in batch]
        self.token_count.add(sum(count.sum() for count in counts), 0 if trained is None else trained)
        return batches, trained

    def compute_loss(
        self, model: Any, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one micro-batch: its share of the mean over the global batch's trained tokens."""
        values = {name: value for name, value in inputs.items() if name != "num_tokens"} | {"use_cache": False}
        if self._positions is None or num_items_in_batch is None:
            result = super().compute_loss(model, values, return_outputs, num_items_in_batch)
        else:
            with self._positions.of_batch(values["labels"]) as shift_labels:
                values["shift_labels"] = shift_labels
                result = super().compute_loss(model, values, return_outputs, num_items_in_batch)
        if self._evaluated is not None:
            loss = (result[0] if return_outputs else result).detach().double()
            tokens = torch.as_tensor(num_items_in_batch, device=loss.device, dtype=torch.float64)
            self._evaluated.append(torch.stack([torch.where(tokens > 0, loss * tokens, 0.0), tokens]))
        return result

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As the Trainer's, but the loss is the mean over the set's trained tokens, whatever the batches."""
        self._evaluated = []
        try:
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
            if self._evaluated and f"{metric_key_prefix}_loss" in output.metrics:
                # Each rank's losses are scaled by the number of ranks, and the count is that of all ranks.
                total, tokens = self.accelerator.reduce(torch.stack(self._evaluated).sum(0), "mean").tolist()
                output.metrics[f"{metric_key_prefix}_loss"] = total / tokens if tokens else float("nan")
            return output
        finally:
            self._evaluated = None

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Every row once: ranks that have fewer get rows without labels, in place of rows of another rank."""
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        together = self.args.eval_batch_size * self.args.world_size
        if self.args.world_size > 1 and hasattr(rows, "__getitem__") and not isinstance(rows, str | dict):
            rows = _Filled(rows, together)
        return super().get_eval_dataloader(rows)


class SftTrainer(OptimizerFromConfig, TokenTrainer):
    """The Trainer of supervised fine-tuning."""


class _Filled(Dataset):  # type: ignore[misc]
    """A set, filled up to a multiple of some rows with rows that are not trained."""

    def __init__(self, rows: Any, multiple: int) -> None:
        self._rows = rows
        self._length = -(-len(rows) // multiple) * multiple

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index < len(self._rows):
            row: dict[str, Any] = self._rows[index]
            return row
        row = dict(self._rows[0])
        return row | {"labels": [IGNORE_INDEX] * len(row["labels"])}


def _causal_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """For models whose own loss is a mean over the micro-batch."""
    logits = outputs["logits"]
    loss: torch.Tensor = ForCausalLMLoss(logits, labels, logits.shape[-1], num_items_in_batch=num_items_in_batch)
    return loss
