"""Process reward models: a head that says of every step of a solution whether it is right."""

from __future__ import annotations

from ftl_runner.context import Outcome, RunContext
from ftl_runner.methods.frame import load_model, run_trainer, set_up, trainer_parts


def run(context: RunContext) -> Outcome:
    """Prepare judged steps, load the model with a fresh head, train (from the newest checkpoint), save and report."""
    from ftl_runner.data import make_collator
    from ftl_runner.trainer.step_trainer import StepTrainer

    setup = set_up(context)
    _, model = load_model(context, setup)
    collate = make_collator(context.config, setup.tokenizer, packed=False)
    trainer = StepTrainer(**trainer_parts(context, setup, model), data_collator=collate)
    return run_trainer(context, setup, trainer)
