"""Process reward models: a head that says of every step of a solution whether it is right."""

from __future__ import annotations

from typing import Any

from ftl_runner.context import Outcome, RunContext
from ftl_runner.methods.frame import Setup, load_model, run_trainer, set_up


def run(context: RunContext) -> Outcome:
    """Prepare judged steps, load the model with a fresh head, train (from the newest checkpoint), save and report."""
    setup = set_up(context)
    _, model = load_model(context, setup)
    return run_trainer(context, setup, _make_trainer(context, setup, model))


def _make_trainer(context: RunContext, setup: Setup, model: Any) -> Any:
    from ftl_runner.data import make_collator
    from ftl_runner.trainer.step_trainer import StepTrainer

    return StepTrainer(
        config=context.config,
        model=model,
        args=setup.arguments,
        train_dataset=setup.prepared.train,
        eval_dataset=setup.prepared.eval,
        data_collator=make_collator(context.config, setup.tokenizer, packed=False),
        processing_class=setup.tokenizer,
    )
