"""Supervised fine-tuning: next-token cross-entropy on the trained part of each sequence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.protocol import EventType
from ftl_runner.checkpoints.resume import fetch_checkpoint
from ftl_runner.context import Outcome, RunContext
from ftl_runner.data.stream import StreamSet
from ftl_runner.models.adapter import add_adapter
from ftl_runner.models.isolation import check_isolation, joins_sequences, make_layout, refuse_leaking_model
from ftl_runner.models.kernels import liger_warning
from ftl_runner.models.loader import load_base_model, load_model_config
from ftl_runner.models.precision import choose_precision
from ftl_runner.models.tokenizer import load_tokenizer
from ftl_runner.report import finish_run
from ftl_runner.trainer.arguments import Schedule, make_arguments, make_schedule
from ftl_runner.trainer.callbacks import StopOnSignal, make_callbacks
from ftl_runner.trainer.streaming import SaveStreamPosition, StreamTrainer, make_stream_loader, restore_position

if TYPE_CHECKING:
    from ftl_runner.data import Prepared
    from ftl_runner.data.collate import Layout
    from ftl_runner.trainer.token_trainer import SftTrainer


def run(context: RunContext) -> Outcome:
    """Prepare the data, load the model, train (from the newest checkpoint where there is one), save and report."""
    from transformers import set_seed

    config, ranks = context.config, context.ranks
    precision = choose_precision(config)
    refuse_leaking_model(config, load_model_config(config).model_type)
    tokenizer = load_tokenizer(config)
    prepared = _prepare(context, tokenizer)
    streamed = isinstance(prepared.train, StreamSet)
    schedule = make_schedule(config, None if streamed else len(prepared.train), ranks.world_size)
    arguments = make_arguments(config, precision, schedule, ranks.world_size)

    context.events.phase("model", f"loading {config.model.base_model}")
    with context.clock.measure("model"):
        set_seed(config.training.seed)  # an adapter's random start is the same on every rank and in every attempt
        base = load_base_model(config, tokenizer, precision)
        if warning := liger_warning(config, base.config.model_type, use_cpu=precision.use_cpu):
            context.warn(warning)
        model = add_adapter(base, config)

    layout = make_layout(config, base.config)
    stop = StopOnSignal(context)
    trainer = _make_trainer(context, model, arguments, prepared, tokenizer, layout, stop)
    if joins_sequences(config) and (warning := check_isolation(base, layout)):
        context.warn(warning)
    resume_folder = None
    if context.resume_from is not None:
        resume_folder = _fetch_resume(context)
        if streamed:
            restore_position(trainer.get_train_dataloader(), Path(resume_folder), ranks.rank)
    _announce(context, trainer, prepared, schedule)
    with context.clock.measure("train"):
        trainer.train(resume_from_checkpoint=resume_folder)

    outcome = Outcome("stopped" if stop.stopped else "succeeded", trainer.state.global_step, schedule.total_steps)
    if outcome.status == "succeeded":
        finish_run(context, trainer, tokenizer, prepared)
    return outcome


def _prepare(context: RunContext, tokenizer: Any) -> Prepared:
    from ftl_runner.data import prepare

    context.events.phase("data", "preparing the dataset")
    with context.clock.measure("data"):
        # Every rank calls it: the cache's own lock lets one process work and the others wait for what it made.
        return prepare(
            context.config,
            tokenizer,
            cache_root=None,
            on_progress=lambda text: context.events.phase("data", text),
            shared_uri=context.job.prepared_uri,
        )


def _make_trainer(
    context: RunContext,
    model: Any,
    arguments: Any,
    prepared: Prepared,
    tokenizer: Any,
    layout: Layout,
    stop: StopOnSignal,
) -> SftTrainer:
    from transformers import PrinterCallback

    from ftl_runner.data import make_collator
    from ftl_runner.trainer.token_trainer import SftTrainer

    config = context.config
    collate = make_collator(config, tokenizer, packed=bool(config.data.sample_packing), layout=layout)
    given: dict[str, Any] = {
        "config": config,
        "model": model,
        "args": arguments,
        "eval_dataset": prepared.eval,
        "data_collator": collate,
        "processing_class": tokenizer,
        # Compiled code would be compiled anew for every number of trained positions.
        "trained_positions_only": not (arguments.use_liger_kernel or arguments.torch_compile),
    }
    if isinstance(prepared.train, StreamSet):
        loader = make_stream_loader(context, prepared.train, collate, arguments)
        trainer: SftTrainer = StreamTrainer(loader=loader, **given)
        trainer.add_callback(SaveStreamPosition(context, loader, prepared.train))
    else:
        trainer = SftTrainer(train_dataset=prepared.train, **given)
    for callback in make_callbacks(context, stop, trainer.token_count):
        trainer.add_callback(callback)
    trainer.remove_callback(PrinterCallback)  # our events are the log
    return trainer


def _fetch_resume(context: RunContext) -> str:
    point = context.resume_from
    assert point is not None
    if context.ranks.is_node_leader:
        fetch_checkpoint(point, context.output_dir)
    context.ranks.barrier()
    context.events.emit(
        EventType.RESUMED,
        step=point.step,
        uri=point.uri,
        attempt=context.identity.attempt,
    )
    return str(context.output_dir / point.manifest.folder)


def _announce(context: RunContext, trainer: SftTrainer, prepared: Prepared, schedule: Schedule) -> None:
    counts = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in trainer.model.parameters()]
    context.events.emit(
        EventType.TRAIN_START,
        total_steps=schedule.total_steps,
        start_step=context.resume_from.step if context.resume_from else 0,
        num_epochs=float(context.config.training.num_epochs),
        world_size=context.ranks.world_size,
        trainable_params=sum(count for count, trained in counts if trained),
        total_params=sum(count for count, _ in counts),
        num_rows=None if isinstance(prepared.train, StreamSet) else len(prepared.train),
        attempt=context.identity.attempt,
    )
