"""Supervised fine-tuning: next-token cross-entropy on the trained part of each sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftl_config.protocol import EventType
from ftl_runner.checkpoints.resume import fetch_checkpoint
from ftl_runner.context import Outcome, RunContext
from ftl_runner.models.adapter import add_adapter
from ftl_runner.models.attention import packing_leak
from ftl_runner.models.kernels import liger_warning
from ftl_runner.models.loader import load_base_model
from ftl_runner.models.precision import choose_precision
from ftl_runner.models.tokenizer import load_tokenizer
from ftl_runner.report import finish_run
from ftl_runner.trainer.arguments import Schedule, make_arguments, make_schedule
from ftl_runner.trainer.callbacks import StopOnSignal, make_callbacks
from ftl_runner.trainer.configured import OptimizerFromConfig

if TYPE_CHECKING:
    from transformers import Trainer

    from ftl_runner.data import Prepared


def run(context: RunContext) -> Outcome:
    """Prepare the data, load the model, train (from the newest checkpoint where there is one), save and report."""
    from transformers import set_seed

    config, ranks = context.config, context.ranks
    precision = choose_precision(config)
    tokenizer = load_tokenizer(config)
    prepared = _prepare(context, tokenizer)
    schedule = make_schedule(config, len(prepared.train), ranks.world_size)
    arguments = make_arguments(config, precision, schedule, ranks.world_size)

    context.events.phase("model", f"loading {config.model.base_model}")
    with context.clock.measure("model"):
        set_seed(config.training.seed)  # an adapter's random start is the same on every rank and in every attempt
        base = load_base_model(config, tokenizer, precision)
        if warning := liger_warning(config, base.config.model_type, use_cpu=precision.use_cpu):
            context.warn(warning)
        model = add_adapter(base, config)

    leak = packing_leak(model.config.model_type) if config.data.sample_packing else None
    if leak is not None:
        context.warn(leak)
    stop = StopOnSignal(context)
    tokens_per_step = prepared.report.tokens / max(1, len(prepared.train)) * schedule.global_batch
    trainer = _make_trainer(context, model, arguments, prepared, tokenizer, tokens_per_step, stop)
    resume_folder = None
    if context.resume_from is not None:
        resume_folder = _fetch_resume(context)
    _announce(context, trainer, prepared, schedule)
    with context.clock.measure("train"):
        trainer.train(resume_from_checkpoint=resume_folder)

    outcome = Outcome("stopped" if stop.stopped else "succeeded", trainer.state.global_step, schedule.total_steps)
    if outcome.status == "succeeded":
        finish_run(context, trainer, tokenizer, prepared, tokens_per_step)
    return outcome


def _prepare(context: RunContext, tokenizer: Any) -> Prepared:
    from ftl_runner.data import prepare

    context.events.phase("data", "preparing the dataset")
    with context.clock.measure("data"):
        # Every rank calls it: the cache's own lock lets one process work and the others wait for what it made.
        return prepare(
            context.config, tokenizer, cache_root=None, on_progress=lambda text: context.events.phase("data", text)
        )


def _make_trainer(
    context: RunContext,
    model: Any,
    arguments: Any,
    prepared: Prepared,
    tokenizer: Any,
    tokens_per_step: float,
    stop: StopOnSignal,
) -> Trainer:
    from transformers import PrinterCallback

    from ftl_runner.data import make_collator

    config = context.config
    trainer = OptimizerFromConfig(
        config=config,
        model=model,
        args=arguments,
        train_dataset=prepared.train,
        eval_dataset=prepared.eval,
        data_collator=make_collator(config, tokenizer, packed=bool(config.data.sample_packing)),
        processing_class=tokenizer,
        callbacks=make_callbacks(context, stop, tokens_per_step),
    )
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


def _announce(context: RunContext, trainer: Trainer, prepared: Prepared, schedule: Schedule) -> None:
    counts = [(p.numel(), p.requires_grad) for p in trainer.model.parameters()]
    context.events.emit(
        EventType.TRAIN_START,
        total_steps=schedule.total_steps,
        start_step=context.resume_from.step if context.resume_from else 0,
        num_epochs=float(context.config.training.num_epochs),
        world_size=context.ranks.world_size,
        trainable_params=sum(count for count, trained in counts if trained),
        total_params=sum(count for count, _ in counts),
        num_rows=len(prepared.train),
        attempt=context.identity.attempt,
    )
