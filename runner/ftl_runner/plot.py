"""The loss curve as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def plot_losses(history: list[dict[str, Any]], target: Path, *, title: str) -> None:
    """Training loss (thin, with a running mean) and evaluation loss over optimizer steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train = [(row["step"], row["loss"]) for row in history if "loss" in row]
    evaluated = [(row["step"], row["eval_loss"]) for row in history if "eval_loss" in row]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if train:
        steps, losses = zip(*train, strict=True)
        axes.plot(steps, losses, color="tab:blue", alpha=0.35, linewidth=1, label="loss")
        axes.plot(steps, _running_mean(list(losses)), color="tab:blue", linewidth=2, label="loss, running mean")
    if evaluated:
        steps, losses = zip(*evaluated, strict=True)
        axes.plot(steps, losses, "o-", color="tab:orange", label="eval loss")
    axes.set(title=title, xlabel="step", ylabel="cross-entropy (nats/token)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(target, dpi=120)


def _running_mean(values: list[float], weight: float = 0.8) -> list[float]:
    """Exponential mean with bias correction, as TensorBoard smooths."""
    mean, smoothed = 0.0, []
    for count, value in enumerate(values, 1):
        mean = weight * mean + (1 - weight) * value
        smoothed.append(mean / (1 - weight**count))
    return smoothed
