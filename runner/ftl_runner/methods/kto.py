"""Kahneman-Tversky optimization (arXiv:2402.01306): answers judged good or bad one by one, without pairs.

Good answers are made likelier than the reference model has them, bad ones less likely, against how far the model has
moved altogether: the mean log ratio of answers put behind other prompts of the same micro-batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftl_runner.context import Outcome, RunContext
from ftl_runner.methods.frame import Setup, run_trainer, set_up, trainer_parts
from ftl_runner.methods.preference import adapter_starts_at_zero, load_reference, load_scored_model, trl_options

if TYPE_CHECKING:
    from ftl_config import Config


def run(context: RunContext) -> Outcome:
    """Prepare the answers, load the model and its reference, train, save and report."""
    setup = set_up(context, "KTOConfig", kto_options(context.config))
    if warning := balance_warning(context.config, setup.prepared.train["label"]):
        context.warn(warning)
    model = load_scored_model(context, setup)
    trainer = _make_trainer(context, setup, model, load_reference(context, setup))
    return run_trainer(context, setup, trainer)


def kto_options(config: Config) -> dict[str, Any]:
    """The ``kto_*`` keys as arguments of TRL's ``KTOConfig``."""
    keys = config.preference
    return trl_options(config) | {
        "loss_type": "kto",
        # A weight of 0 means 1, as in Axolotl: without either kind of answer there is nothing to compare.
        "desirable_weight": keys.kto_desirable_weight or 1.0,
        "undesirable_weight": keys.kto_undesirable_weight or 1.0,
        # TRL insists; the set has been shuffled when it was prepared.
        "train_sampling_strategy": "sequential",
    }


def balance_warning(config: Config, labels: Any) -> str | None:
    """What to say where good and bad answers do not weigh about the same (equation 8 of the paper: 1 to 4/3)."""
    good = sum(labels)
    bad = len(labels) - good
    if not good or not bad:
        return f"rl: kto: all {len(labels)} answers are {'good' if good else 'bad'}; it learns from the difference"
    options = kto_options(config)
    share = options["desirable_weight"] * good / (options["undesirable_weight"] * bad)
    if 0.99 <= share <= 1.34 or 0.99 <= 1 / share <= 1.34:
        return None
    key, value = ("kto_undesirable_weight", good / bad) if good > bad else ("kto_desirable_weight", bad / good)
    return f"rl: kto: {good} answers are good and {bad} are bad; {key}: {value:.2f} makes them weigh the same"


def _make_trainer(context: RunContext, setup: Setup, model: Any, reference: Any | None) -> Any:
    from ftl_runner.trainer.preference_trainers import KtoTrainer, MismatchedCollator

    data = context.config.data
    return KtoTrainer(
        **trainer_parts(context, setup, model),
        ref_model=reference,
        adapter_starts_at_zero=adapter_starts_at_zero(context.config),
        data_collator=MismatchedCollator(setup.tokenizer, data.sequence_len, data.pad_to_multiple_of),
    )
