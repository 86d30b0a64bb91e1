"""Direct preference optimization (arXiv:2305.18290) and the losses that TRL's trainer has beside it, IPO among them.

The model is trained to prefer the chosen answer of each pair over the rejected one, more than a reference model does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftl_runner.context import Outcome, RunContext
from ftl_runner.methods.frame import Setup, run_trainer, set_up, trainer_parts
from ftl_runner.methods.preference import adapter_starts_at_zero, load_reference, load_scored_model, trl_options

if TYPE_CHECKING:
    from ftl_config import Config


def run(context: RunContext) -> Outcome:
    """Prepare the pairs, load the model and its reference, train, save and report."""
    setup = set_up(context, "DPOConfig", dpo_options(context.config))
    model = load_scored_model(context, setup)
    trainer = _make_trainer(context, setup, model, load_reference(context, setup))
    return run_trainer(context, setup, trainer)


def dpo_options(config: Config) -> dict[str, Any]:
    """The ``dpo_*`` keys as arguments of TRL's ``DPOConfig``; ``rl: ipo`` is DPO with IPO's loss."""
    keys = config.preference
    losses = ["ipo"] if keys.rl == "ipo" else list(keys.dpo_loss_type or ("sigmoid",))
    return trl_options(config) | {
        "loss_type": losses,
        "loss_weights": list(keys.dpo_loss_weights) if keys.dpo_loss_weights else None,
        "label_smoothing": keys.dpo_label_smoothing or 0.0,
        "use_weighting": bool(keys.dpo_use_weighting),
    }


def _make_trainer(context: RunContext, setup: Setup, model: Any, reference: Any | None) -> Any:
    from ftl_runner.trainer.preference_trainers import DpoTrainer

    return DpoTrainer(
        **trainer_parts(context, setup, model),
        ref_model=reference,
        adapter_starts_at_zero=adapter_starts_at_zero(context.config),
    )
