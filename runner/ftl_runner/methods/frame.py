"""What every method does around its trainer: data before it, training with resume, the result after it."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.protocol import EventType
from ftl_runner.checkpoints.resume import fetch_checkpoint
from ftl_runner.context import Outcome, RunContext
from ftl_runner.data.stream import StreamSet
from ftl_runner.distributed.ranks import whereabouts
from ftl_runner.models.adapter import add_adapter
from ftl_runner.models.kernels import liger_warning
from ftl_runner.models.loader import load_base_model
from ftl_runner.models.precision import Precision, choose_precision
from ftl_runner.models.tokenizer import load_tokenizer
from ftl_runner.report import finish_run
from ftl_runner.trainer.arguments import Schedule, make_arguments, make_schedule
from ftl_runner.trainer.callbacks import StopOnSignal, make_callbacks
from ftl_runner.trainer.streaming import restore_position

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    from ftl_runner.data import Prepared


@dataclass(frozen=True)
class Setup:
    """All that a trainer is made of, except the model."""

    precision: Precision
    tokenizer: Any
    prepared: Prepared
    schedule: Schedule
    arguments: TrainingArguments


def set_up(
    context: RunContext,
    trl_config: str | None = None,
    options: dict[str, Any] | None = None,
    rows_an_epoch: Callable[[int], int] | None = None,
) -> Setup:
    """Prepare the data and make the arguments, which also sets DeepSpeed up: it comes before the model is loaded.

    Args:
        trl_config: name of TRL's class for the arguments; ``TrainingArguments`` where it is not given.
        options: arguments of that class beyond those of ``TrainingArguments``.
        rows_an_epoch: what an epoch trains on, from the rows of the data; the same number where it is not given.
    """
    config, world_size = context.config, context.ranks.world_size
    precision = choose_precision(config)
    tokenizer = load_tokenizer(config)
    prepared = _prepare(context, tokenizer)
    num_rows = None if isinstance(prepared.train, StreamSet) else len(prepared.train)
    if num_rows is not None and rows_an_epoch is not None:
        num_rows = rows_an_epoch(num_rows)
    schedule = make_schedule(config, num_rows, world_size)
    kind = getattr(importlib.import_module("trl"), trl_config) if trl_config else None
    arguments = make_arguments(config, precision, schedule, world_size, kind=kind, options=options)
    return Setup(precision, tokenizer, prepared, schedule, arguments)


def load_model(context: RunContext, setup: Setup) -> tuple[Any, Any]:
    """The base model, and the same with the adapter of the configuration on it (or the base model again)."""
    from transformers import set_seed

    config = context.config
    context.events.phase("model", f"loading {config.model.base_model}")
    with context.clock.measure("model"):
        set_seed(config.training.seed)  # an adapter's random start is the same on every rank and in every attempt
        base = load_base_model(config, setup.tokenizer, setup.precision)
        if warning := liger_warning(config, base.config.model_type, use_cpu=setup.precision.use_cpu):
            context.warn(warning)
        return base, add_adapter(base, config)


def trainer_parts(context: RunContext, setup: Setup, model: Any) -> dict[str, Any]:
    """What every trainer on a prepared set is made of, by the names of their arguments."""
    return {
        "config": context.config,
        "model": model,
        "args": setup.arguments,
        "train_dataset": setup.prepared.train,
        "eval_dataset": setup.prepared.eval,
        "processing_class": setup.tokenizer,
    }


def run_trainer(context: RunContext, setup: Setup, trainer: Any, callbacks: Sequence[Any] = ()) -> Outcome:
    """Train from the newest checkpoint where there is one; save and report at the end.

    Args:
        trainer: a ``Trainer`` with a ``token_count``.
        callbacks: those of the method, before ours: what they put into a checkpoint is committed with it.
    """
    stop = StopOnSignal(context)
    _add_callbacks(context, trainer, [*callbacks, *make_callbacks(context, stop, trainer.token_count)])
    resume_folder = None
    if context.resume_from is not None:
        resume_folder = _fetch_resume(context)
        if isinstance(setup.prepared.train, StreamSet):
            restore_position(trainer.get_train_dataloader(), Path(resume_folder), context.ranks.rank)
    _announce(context, trainer, setup)
    gc.freeze()  # what is loaded by now stays: the Trainer's collections of garbage need not look through it
    with context.clock.measure("train"):
        trainer.train(resume_from_checkpoint=resume_folder)
    outcome = Outcome(_status(context, stop), trainer.state.global_step, setup.schedule.total_steps)
    if outcome.status == "succeeded":
        finish_run(context, trainer, setup.tokenizer, setup.prepared)
    return outcome


def _status(context: RunContext, stop: StopOnSignal) -> str:
    if not stop.stopped:
        return "succeeded"
    return "at_limit" if context.ranks.any(context.stop.at_limit) else "stopped"


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


def _add_callbacks(context: RunContext, trainer: Trainer, callbacks: Sequence[Any]) -> None:
    from transformers import PrinterCallback

    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.remove_callback(PrinterCallback)  # our events are the log


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


def _announce(context: RunContext, trainer: Any, setup: Setup) -> None:
    counts = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in trainer.model.parameters()]
    rows = setup.prepared.train
    context.events.emit(
        EventType.TRAIN_START,
        total_steps=setup.schedule.total_steps,
        start_step=context.resume_from.step if context.resume_from else 0,
        num_epochs=float(context.config.training.num_epochs),
        world_size=context.ranks.world_size,
        trainable_params=sum(count for count, trained in counts if trained),
        total_params=sum(count for count, _ in counts),
        num_rows=None if isinstance(rows, StreamSet) else len(rows),
        attempt=context.identity.attempt,
        workers=context.ranks.gather(whereabouts(context.ranks.rank)),
    )
