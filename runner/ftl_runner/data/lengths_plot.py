"""How long the sequences are, as a PNG."""

from __future__ import annotations

from pathlib import Path

from ftl_runner.data.report import PrepareReport


def plot_lengths(report: PrepareReport, target: Path) -> None:
    """Bars of sequences by length in tokens, ``sequence_len`` as a line, and beside it what was over it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = max(1, report.sequence_len // 64)
    for bins, colour in ((report.length_bins, "tab:blue"), (report.long_bins, "tab:red")):
        tops, counts = [top for top, _ in bins], [count for _, count in bins]
        axes.bar(tops, counts, width=-width, align="edge", color=colour, edgecolor="white", linewidth=0.3)
    axes.axvline(report.sequence_len, color="black", linestyle="--", linewidth=1)
    label = f" sequence_len {report.sequence_len:,}"
    axes.annotate(label, (report.sequence_len, 0.98), xycoords=("data", "axes fraction"), va="top")
    over = f", {report.long_rows:,} rows over sequence_len (red): {report.excess_length_strategy}"
    title = f"{report.num_sequences:,} sequences, {report.tokens:,} tokens"
    axes.set(
        title=title + (over if report.long_rows else ""),
        xlabel="tokens of a sequence",
        ylabel="sequences",
    )
    axes.grid(alpha=0.3, axis="y")
    figure.savefig(target, dpi=120)
