"""Simple preference optimization (arXiv:2405.14734), with the cross-entropy of CPO (arXiv:2401.08417) beside it.

No reference model: an answer's reward is the mean log-probability of its tokens, and the chosen answer's is to be
greater by a margin.
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
    from ftl_runner.trainer.reference_free import SimpoTrainer

    setup = set_up(context)
    model = load_scored_model(context, setup)
    multiple, options = context.config.data.pad_to_multiple_of, simpo_options(context.config)
    trainer = SimpoTrainer(**trainer_parts(context, setup, model), multiple=multiple, **options)
    return run_trainer(context, setup, trainer)


def simpo_options(config: Config) -> dict[str, Any]:
    """``rl_beta``, ``simpo_gamma`` and ``cpo_alpha``, with the defaults of TRL's CPO trainer, as in Axolotl."""
    keys = config.preference
    return {
        "beta": keys.beta_or(DEFAULT_BETA),
        "gamma": 0.5 if keys.simpo_gamma is None else keys.simpo_gamma,
        "alpha": 1.0 if keys.cpo_alpha is None else keys.cpo_alpha,
    }
