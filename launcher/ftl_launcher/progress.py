"""How far a run has come, folded from its event stream. Everything that is shown of a run comes from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ftl_config.protocol import Event, EventType

_MAX_LOSSES = 64
"""Enough for a sparkline; when it is full every second value goes, so it always spans the whole run."""


@dataclass
class Progress:
    """The last word on everything a run has said about itself. All fields are JSON values."""

    phase: str | None = None
    message: str | None = None
    step: int | None = None
    total_steps: int | None = None
    start_step: int | None = None
    epoch: float | None = None
    loss: float | None = None
    eval_loss: float | None = None
    learning_rate: float | None = None
    tokens_per_s: float | None = None
    eta_s: float | None = None
    world_size: int | None = None
    trainable_params: int | None = None
    total_params: int | None = None
    attempt: int | None = None
    resumed_from: int | None = None
    checkpoint_step: int | None = None
    checkpoint_uri: str | None = None
    losses: list[float] = field(default_factory=list)
    loss_stride: int = 1
    num_losses: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    hint: str | None = None
    status: str | None = None
    exit_code: int | None = None
    log_bytes: int = 0
    """How much of the log has been folded, so that the next look goes on from there."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Progress:
        """What `to_dict` wrote; fields of a newer ftl are left out."""
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value not in (None, [], {})}

    def fold(self, event: Event) -> None:
        """Take one event in."""
        handler = _HANDLERS.get(event.type)
        if handler is not None:
            handler(self, event)

    @property
    def fraction(self) -> float | None:
        if self.step is None or not self.total_steps:
            return None
        return min(self.step / self.total_steps, 1.0)


def _fold_phase(progress: Progress, event: Event) -> None:
    progress.phase, progress.message = event.get("phase"), event.get("message")


def _fold_start(progress: Progress, event: Event) -> None:
    progress.phase = "train"
    # What an attempt before this one said is over: this attempt may go on from an earlier step.
    progress.error = progress.hint = progress.status = progress.exit_code = None
    for name in ("total_steps", "start_step", "world_size", "trainable_params", "total_params", "attempt"):
        setattr(progress, name, event.get(name, getattr(progress, name)))
    progress.step = event.get("start_step", progress.step)


def _fold_step(progress: Progress, event: Event) -> None:
    progress.phase = "train"
    for name in ("step", "total_steps", "epoch", "learning_rate", "tokens_per_s", "eta_s"):
        setattr(progress, name, event.get(name, getattr(progress, name)))
    loss = event.get("loss")
    if isinstance(loss, int | float):
        progress.loss = float(loss)
        _keep_loss(progress, float(loss))


def _keep_loss(progress: Progress, loss: float) -> None:
    if progress.num_losses % progress.loss_stride == 0:
        progress.losses.append(loss)
    progress.num_losses += 1
    if len(progress.losses) >= _MAX_LOSSES:
        progress.losses = progress.losses[::2]
        progress.loss_stride *= 2


def _fold_eval(progress: Progress, event: Event) -> None:
    progress.eval_loss = event.get("eval_loss")


def _fold_checkpoint(progress: Progress, event: Event) -> None:
    progress.checkpoint_step, progress.checkpoint_uri = event.get("step"), event.get("uri")


def _fold_resumed(progress: Progress, event: Event) -> None:
    progress.resumed_from, progress.attempt = event.get("step"), event.get("attempt", progress.attempt)


def _fold_sample(progress: Progress, event: Event) -> None:
    progress.samples.append({key: event.get(key) for key in ("prompt", "base", "tuned")})


def _fold_error(progress: Progress, event: Event) -> None:
    progress.error, progress.hint = event.get("message"), event.get("hint")
    progress.exit_code = event.get("exit_code", progress.exit_code)


def _fold_summary(progress: Progress, event: Event) -> None:
    progress.summary = dict(event.get("metrics") or {})
    progress.files = dict(event.get("files") or {})


def _fold_end(progress: Progress, event: Event) -> None:
    progress.status, progress.exit_code = event.get("status"), event.get("exit_code", progress.exit_code)


_HANDLERS = {
    EventType.PHASE: _fold_phase,
    EventType.TRAIN_START: _fold_start,
    EventType.STEP: _fold_step,
    EventType.EVAL: _fold_eval,
    EventType.CHECKPOINT: _fold_checkpoint,
    EventType.RESUMED: _fold_resumed,
    EventType.SAMPLE: _fold_sample,
    EventType.ERROR: _fold_error,
    EventType.SUMMARY: _fold_summary,
    EventType.END: _fold_end,
}
