"""The losses of ORPO and SimPO."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ftl_runner.trainer.pair_trainer import PairLogProbs, PairTrainer, rewards


class OrpoTrainer(PairTrainer):
    """Cross-entropy of prompt and chosen answer, and ``weight`` on the odds ratio (equations 6 and 7)."""

    def __init__(self, *args: Any, weight: float, **kwargs: Any) -> None:
        super().__init__(*args, learns_prompt=True, **kwargs)
        self._weight = weight

    def pair_loss(self, found: PairLogProbs) -> tuple[Tensor, dict[str, Tensor]]:
        log_odds = _log_odds(found.chosen) - _log_odds(found.rejected)
        ratio = logsigmoid(log_odds)
        loss = found.cross_entropy - self._weight * ratio.mean()
        return loss, rewards(found, self._weight) | {"log_odds_chosen": log_odds, "log_odds_ratio": ratio}


class SimpoTrainer(PairTrainer):
    """The chosen answer's reward is to be ``gamma`` greater (equation 6); ``alpha`` on its cross-entropy."""

    def __init__(self, *args: Any, beta: float, gamma: float, alpha: float, **kwargs: Any) -> None:
        super().__init__(*args, learns_prompt=False, **kwargs)
        self._beta, self._gamma, self._alpha = beta, gamma, alpha

    def pair_loss(self, found: PairLogProbs) -> tuple[Tensor, dict[str, Tensor]]:
        margins = self._beta * (found.chosen - found.rejected) - self._gamma
        loss = -logsigmoid(margins).mean() + self._alpha * found.cross_entropy
        return loss, rewards(found, self._beta)


def _log_odds(log_probs: Tensor) -> Tensor:
    """log(p / (1 - p)), exact for p near 0 and near 1."""
    log_probs = log_probs.float()
    near_one = log_probs > -0.6931471805599453
    return log_probs - torch.where(near_one, torch.log(-torch.expm1(log_probs)), torch.log1p(-torch.exp(log_probs)))
