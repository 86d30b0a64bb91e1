"""Time two commands in turn (A B A B ...) as whole processes, and print both medians and the ratio pair by pair."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """A named command line; ``cwd`` is where it runs."""

    name: str
    argv: Sequence[str]
    cwd: Path | None = None


def time_once(command: Command) -> float:
    """Wall-clock seconds of one run; a run that fails is an error, not a figure."""
    started = time.perf_counter()
    result = subprocess.run(command.argv, cwd=command.cwd, capture_output=True, text=True)
    elapsed = time.perf_counter() - started
    if result.returncode != 0:
        raise SystemExit(f"{command.name} failed ({result.returncode}):\n{result.stderr[-2000:]}")
    return elapsed


def compare(ours: Command, peer: Command, runs: int = 5, warmup: int = 1) -> float:
    """Print medians and the median of the pairwise ratios ours/peer; returns that ratio."""
    for _ in range(warmup):
        time_once(ours)
        time_once(peer)
    pairs = [(time_once(ours), time_once(peer)) for _ in range(runs)]
    ratio = statistics.median(a / b for a, b in pairs)
    for name, index in ((ours.name, 0), (peer.name, 1)):
        values = [pair[index] for pair in pairs]
        print(f"  {name:<44} median {statistics.median(values):8.3f} s   ({min(values):.3f} .. {max(values):.3f})")
    print(f"  ratio ours/peer {ratio:.3f}  (median of {runs} pairs)")
    return ratio
