"""Callbacks that join transformers' Trainer to our events, stop signal and checkpoint store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftl_config.protocol import EventType
from ftl_runner.checkpoints.commit import commit_checkpoint, prune_local, rotate
from ftl_runner.checkpoints.manifest import FOLDER_PREFIX, committed
from ftl_runner.context import RunContext
from ftl_runner.metrics import method_metrics
from ftl_runner.trainer.lisa import LisaLayers
from ftl_runner.trainer.nan_loss import StopOnNanLoss
from ftl_runner.trainer.qat import PretendQuantized
from ftl_runner.trainer.relora import ReloraRestarts
from ftl_runner.trainer.startup import StartupPhases
from ftl_runner.trainer.time_limit import StopAtTimeLimit
from ftl_runner.trainer.watchdog import LossWatchdog

if TYPE_CHECKING:
    from ftl_runner.trainer.token_trainer import TokenCount


def make_callbacks(context: RunContext, stop: StopOnSignal, tokens: TokenCount) -> list[TrainerCallback]:
    """The callbacks of a run; ``tokens`` is what the Trainer counts, for the speed in events."""
    training, keys = context.config.training, context.config.checkpointing
    callbacks: list[TrainerCallback] = [StartupPhases(context), ProgressEvents(context, tokens)]
    callbacks += [StopAtTimeLimit(context), stop]  # in this order: the limit is a request to stop
    if context.config.adapter.relora:
        callbacks.append(ReloraRestarts(context))
    callbacks.append(CommitCheckpoints(context, keys.save_total_limit))
    if context.config.adapter.lisa_n_layers:
        callbacks.append(LisaLayers(context.config))
    qat = context.config.quantization.qat
    if qat is not None and qat.fake_quant_after_n_steps:
        callbacks.append(PretendQuantized(qat.fake_quant_after_n_steps))
    if keys.save_first_step:
        callbacks.append(SaveFirstStep())
    if keys.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(keys.early_stopping_patience))
    if training.stop_on_nan_loss:
        callbacks.append(StopOnNanLoss(context, tokens.record))
    if training.loss_watchdog_threshold is not None:
        callbacks.append(LossWatchdog(training.loss_watchdog_threshold, training.loss_watchdog_patience))
    return callbacks


class ProgressEvents(TrainerCallback):  # type: ignore[misc]
    """One ``step`` event a logging step, with speed and time left.

    Tokens are counted, without padding; speed counts the steps since training (re)started.
    """

    def __init__(self, context: RunContext, tokens: TokenCount) -> None:
        self._events = context.events
        self._ranks = context.ranks
        self._tokens = tokens
        self._started = time.monotonic()
        self._start_step = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._started = time.monotonic()
        self._start_step = state.global_step

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if "loss" not in logs:
            return
        steps_done = max(1, state.global_step - self._start_step)
        seconds = time.monotonic() - self._started
        seconds_per_step = seconds / steps_done
        tokens, trained = sum(self._ranks.gather(int(self._tokens.seen))), int(self._tokens.trained)
        self._events.emit(
            EventType.STEP,
            step=state.global_step,
            total_steps=state.max_steps,
            epoch=logs.get("epoch"),
            loss=logs["loss"],
            learning_rate=logs.get("learning_rate"),
            grad_norm=logs.get("grad_norm"),
            tokens=tokens,
            trained_tokens=trained,
            tokens_per_s=tokens / seconds,
            eta_s=(state.max_steps - state.global_step) * seconds_per_step,
            metrics=method_metrics(logs),
        )

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict[str, float], **_: Any
    ) -> None:
        self._events.emit(
            EventType.EVAL, step=state.global_step, eval_loss=metrics.get("eval_loss"), metrics=method_metrics(metrics)
        )


class StopOnSignal(TrainerCallback):  # type: ignore[misc]
    """End training after the current step, with a checkpoint, once any rank was asked to stop."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self.stopped = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._context.ranks.any(self._context.stop.requested):
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True


class SaveFirstStep(TrainerCallback):  # type: ignore[misc]
    """``save_first_step``: a checkpoint after the first step shows early that saving works."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step == 1:
            control.should_save = True


class CommitCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Commit each checkpoint that the Trainer wrote, then drop the oldest beyond ``save_total_limit``."""

    def __init__(self, context: RunContext, keep: int | None) -> None:
        self._context = context
        self._keep = keep

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        context = self._context
        folder = context.output_dir / f"{FOLDER_PREFIX}{state.global_step}"
        result = commit_checkpoint(context.store, folder, state.global_step, context.identity, context.ranks)
        context.events.emit(
            EventType.CHECKPOINT,
            step=state.global_step,
            uri=f"{context.store.uri}/{folder.name}",
            size_bytes=result.manifest.size_bytes,
            duration_s=result.duration_s,
        )
        self._rotate(state)

    def _rotate(self, state: TrainerState) -> None:
        if not self._keep:
            return
        context = self._context
        best = frozenset([Path(state.best_model_checkpoint).name] if state.best_model_checkpoint else [])
        if context.ranks.is_main:
            rotate(context.store, self._keep, best)
        context.ranks.barrier()
        if context.ranks.is_node_leader:
            prune_local(context.output_dir, best | {manifest.folder for manifest in committed(context.store)})
        context.ranks.barrier()
