"""Reward models: a head that scores a conversation, trained so that better answers score higher (Bradley-Terry)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftl_runner.context import Outcome, RunContext
from ftl_runner.methods.frame import load_model, run_trainer, set_up, trainer_parts

if TYPE_CHECKING:
    from ftl_config import Config


def run(context: RunContext) -> Outcome:
    """Prepare pairs, load the model with a fresh head, train (from the newest checkpoint where there is one), save."""
    from ftl_runner.trainer.reward_trainer import RewardTrainer

    setup = set_up(context, "RewardConfig", reward_options(context.config))
    _, model = load_model(context, setup)
    return run_trainer(context, setup, RewardTrainer(**trainer_parts(context, setup, model)))


def reward_options(config: Config) -> dict[str, Any]:
    """Arguments of TRL's ``RewardConfig``, all that change a meaning."""
    data = config.data
    return {
        "max_length": None,  # rows are within sequence_len already
        # Rows are no longer than sequence_len: a multiple of it is its length.
        "pad_to_multiple_of": data.sequence_len if data.pad_to_sequence_len else data.pad_to_multiple_of,
        "disable_dropout": False,  # what the model and lora_dropout say, as in supervised fine-tuning
        "center_rewards_coefficient": config.preference.center_rewards_coefficient,
    }
