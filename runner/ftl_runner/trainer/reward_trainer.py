"""TRL's trainer of reward models with our optimizer, schedule and count of tokens."""

from __future__ import annotations

import trl

from ftl_runner.trainer.configured import OptimizerFromConfig
from ftl_runner.trainer.counted_tokens import CountedTokens
from ftl_runner.trainer.reference_model import PlainCheckpoints


class RewardTrainer(OptimizerFromConfig, CountedTokens, PlainCheckpoints, trl.RewardTrainer):  # type: ignore[misc]
    """Logs ``accuracy`` (pairs whose better answer scores higher), ``margin`` and mean, least and greatest reward."""
