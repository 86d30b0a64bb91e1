"""Supervised fine-tuning: next-token cross-entropy on the trained part of each sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftl_runner.context import Outcome, RunContext
from ftl_runner.data.stream import StreamSet
from ftl_runner.methods.frame import Setup, load_model, run_trainer, set_up
from ftl_runner.models.document_attention import attend_by_document
from ftl_runner.models.isolation import (
    check_isolation,
    joins_sequences,
    make_layout,
    may_join_rows,
    refuse_leaking_model,
)
from ftl_runner.models.loader import load_model_config
from ftl_runner.trainer.streaming import SaveStreamPosition, StreamTrainer, make_stream_loader

if TYPE_CHECKING:
    from ftl_runner.data.collate import Layout
    from ftl_runner.trainer.token_trainer import SftTrainer


def run(context: RunContext) -> Outcome:
    """Prepare the data, load the model, train (from the newest checkpoint where there is one), save and report."""
    config = context.config
    refuse_leaking_model(config, load_model_config(config).model_type)
    setup = set_up(context)
    base, model = load_model(context, setup)
    by_processor = setup.precision.use_cpu and not setup.arguments.torch_compile
    wanted = by_processor and (joins_sequences(config) or may_join_rows(config))
    layout = make_layout(config, base.config, by_document=wanted and attend_by_document(base))
    trainer, callbacks = _make_trainer(context, setup, model, layout)
    if joins_sequences(config) and (warning := check_isolation(base, layout)):
        context.warn(warning)
    return run_trainer(context, setup, trainer, callbacks)


def _make_trainer(context: RunContext, setup: Setup, model: Any, layout: Layout) -> tuple[SftTrainer, list[Any]]:
    from ftl_runner.data import make_collator
    from ftl_runner.trainer.token_trainer import SftTrainer

    config, arguments, rows = context.config, setup.arguments, setup.prepared.train
    collate = make_collator(config, setup.tokenizer, packed=bool(config.data.sample_packing), layout=layout)
    given: dict[str, Any] = {
        "config": config,
        "model": model,
        "args": arguments,
        "eval_dataset": setup.prepared.eval,
        "data_collator": collate,
        "processing_class": setup.tokenizer,
        # Compiled code would be compiled anew for every number of trained positions.
        "trained_positions_only": not (arguments.use_liger_kernel or arguments.torch_compile),
    }
    if isinstance(rows, StreamSet):
        loader = make_stream_loader(context, rows, collate, arguments)
        return StreamTrainer(loader=loader, **given), [SaveStreamPosition(context, loader, rows)]
    return SftTrainer(train_dataset=rows, **given), []
