"""The trainer of process reward models: two-way cross-entropy at the token where each judged step ends.

TRL 1.16 has no such trainer any more. The loss is a mean over the judged steps of the global batch, as that of
supervised fine-tuning is one over trained tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from ftl_runner.data.encode import IGNORE_INDEX
from ftl_runner.trainer.configured import OptimizerFromConfig
from ftl_runner.trainer.token_trainer import TokenTrainer

_WRONG = 0


class StepTrainer(OptimizerFromConfig, TokenTrainer):
    """Logs ``accuracy`` (steps judged as the data judges them) and ``wrong_steps_found``, the share of wrong ones."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, trained_positions_only=False, **kwargs)
        self.model_accepts_loss_kwargs = False  # transformers' loss of token classification is a mean over the batch
        self.compute_loss_func = self._loss_of_steps
        self._counts: dict[str, list[torch.Tensor]] = {"train": [], "eval": []}

    def _loss_of_steps(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits, labels = outputs["logits"].float().flatten(0, 1), labels.flatten()
        judged = labels != IGNORE_INDEX
        self._counts["train" if self.model.training else "eval"].append(_count(logits[judged], labels[judged]))
        total = cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum")
        count = judged.sum() if num_items_in_batch is None else num_items_in_batch
        return total / torch.as_tensor(count, device=total.device).clamp(min=1)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Collective where steps were judged since the last call, as the Trainer's own gathering of the loss is."""
        mode = "train" if self.model.training else "eval"
        if self._counts[mode]:
            sums = self.accelerator.reduce(torch.stack(self._counts[mode]).sum(0), "sum").tolist()
            self._counts[mode].clear()
            logs.update({("eval_" if mode == "eval" else "") + name: value for name, value in _shares(*sums).items()})
        super().log(logs, start_time)


def _count(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Judged steps, those judged alike, wrong steps, and wrong ones that were found."""
    alike, wrong = logits.argmax(-1) == labels, labels == _WRONG
    counts = [torch.ones_like(alike), alike, wrong, alike & wrong]
    return torch.stack([count.sum() for count in counts]).double()


def _shares(judged: float, alike: float, wrong: float, found: float) -> dict[str, float]:
    shares = {"accuracy": alike / judged} if judged else {}
    return shares | ({"wrong_steps_found": found / wrong} if wrong else {})
