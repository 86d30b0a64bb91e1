"""The machine-readable metrics of a finished run (``metrics.json``)."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any

from ftl_runner.context import RunContext

if TYPE_CHECKING:
    from transformers import Trainer

    from ftl_runner.data import Prepared


_SHOWN = ("step", "epoch", "loss", "learning_rate", "grad_norm", "eval_loss")
_OF_THE_TRAINER = ("_runtime", "_per_second", "total_flos", "train_loss", "num_tokens", "num_input_tokens_seen")


def make_metrics(context: RunContext, trainer: Trainer, prepared: Prepared, tokens: int) -> dict[str, Any]:
    """All figures of a run; seconds in ``*_s``, bytes in ``*_bytes``. ``history`` spans all attempts.

    ``tokens`` are those that this attempt trained on, over all ranks, without padding.
    """
    history = _history(trainer.state.log_history)
    losses = [row["loss"] for row in history if "loss" in row]
    evals = [row["eval_loss"] for row in history if "eval_loss" in row]
    train_s = context.clock.seconds.get("train", 0.0)
    start_step = context.resume_from.step if context.resume_from else 0
    steps_here = trainer.state.global_step - start_step
    return {
        "run_id": context.identity.run_id,
        "attempt": context.identity.attempt,
        "config_digest": context.identity.config_digest,
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "world_size": context.ranks.world_size,
        "first_loss": losses[0] if losses else None,
        "final_loss": sum(losses[-5:]) / len(losses[-5:]) if losses else None,
        "eval_loss": evals[-1] if evals else None,
        "train_s": train_s,
        "steps_this_attempt": steps_here,
        "tokens_this_attempt": tokens,
        "tokens_per_s": tokens / train_s if train_s else None,
        "startup_s": context.clock.startup_seconds(),
        "total_s": round(context.clock.elapsed_s, 3),
        "peak_memory_bytes": _peak_memory_bytes(),
        "data": prepared.report.to_dict(),
        "history": history,
    }


def _history(log_history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = ({name: row[name] for name in _SHOWN if name in row} | method_metrics(row) for row in log_history)
    return [row for row in rows if "loss" in row or "eval_loss" in row]


def method_metrics(logs: dict[str, Any]) -> dict[str, float]:
    """What a method measures beyond the loss (margins, accuracies, rewards, ...) among what the Trainer logs."""
    return {
        name: value
        for name, value in logs.items()
        if isinstance(value, int | float) and name not in _SHOWN and not name.endswith(_OF_THE_TRAINER)
    }


def _peak_memory_bytes() -> dict[str, int]:
    import torch

    peak = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if torch.cuda.is_available():
        peak["device"] = torch.cuda.max_memory_allocated()
    return peak
