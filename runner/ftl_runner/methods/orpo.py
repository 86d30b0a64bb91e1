"""Odds ratio preference optimization (arXiv:2403.07691): supervised fine-tuning and preferences in one loss.

No reference model: cross-entropy on prompt and chosen answer, and a weight on how much greater the odds of the chosen
answer are than those of the rejected one. The odds are those of the geometric mean over an answer's tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftl_runner.context import Outcome, RunContext
from ftl_runner.methods.frame import run_trainer, set_up, trainer_parts
from ftl_runner.methods.preference import DEFAULT_BETA, load_scored_model

if TYPE_CHECKING:
    from ftl_config import Config


def run(context: RunContext) -> Outcome:
    """Prepare the pairs, load the model, train, save and report."""
    from ftl_runner.trainer.reference_free import OrpoTrainer

    setup = set_up(context)
    model = load_scored_model(context, setup)
    multiple, options = context.config.data.pad_to_multiple_of, orpo_options(context.config)
    trainer = OrpoTrainer(**trainer_parts(context, setup, model), multiple=multiple, **options)
    return run_trainer(context, setup, trainer)


def orpo_options(config: Config) -> dict[str, Any]:
    """The weight of the odds ratio: ``rl_beta`` goes before ``orpo_alpha``, as in Axolotl."""
    alpha = config.preference.orpo_alpha
    return {"weight": config.preference.beta_or(DEFAULT_BETA if alpha is None else alpha)}
