"""Time two commands in turn (A B A B ...) as whole processes, and print both medians and the ratio pair by pair.

Processor seconds are printed beside the clock's: on a machine that does other work too they tell more.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_POLL_S = 0.01


@dataclass(frozen=True)
class Command:
    """A named command line; ``cwd`` is where it runs."""

    name: str
    argv: Sequence[str]
    cwd: Path | None = None
    fresh: Sequence[Path] = ()
    """Folders that are removed before each run."""
    ready: Path | None = None
    """The file whose appearance ends the measurement (the rest of the command is cut off), in place of its end."""
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Seconds:
    """Of one run: by the clock, and of all processors in all its processes."""

    wall: float
    processor: float


def time_once(command: Command) -> Seconds:
    """One run; a run that fails is an error, not a figure."""
    before = _processor_s()
    for folder in command.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryFile("w+") as log:
        started = time.perf_counter()
        child = subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env={**os.environ, **command.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        if command.ready is None:
            child.wait()
        else:
            while child.poll() is None and not command.ready.exists():
                time.sleep(_POLL_S)
        elapsed = time.perf_counter() - started
        reached = command.ready is not None and command.ready.exists()
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)  # the group is this command's own
        if child.wait() != 0 and not reached:
            log.seek(0)
            raise SystemExit(f"{command.name} failed ({child.returncode}):\n{log.read()[-2000:]}")
    return Seconds(elapsed, _processor_s() - before)


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compare(ours: Command, peer: Command, runs: int = 5, warmup: int = 1) -> float:
    """Print medians and the median of the pairwise ratios ours/peer; returns that ratio."""
    for _ in range(warmup):
        time_once(ours)
        time_once(peer)
    pairs = [(time_once(ours), time_once(peer)) for _ in range(runs)]
    for command, values in zip((ours, peer), zip(*pairs, strict=True), strict=True):
        walls, processors = [value.wall for value in values], [value.processor for value in values]
        print(
            f"  {command.name:<44} median {statistics.median(walls):8.3f} s   ({min(walls):.3f} .. {max(walls):.3f})"
            f"   processors {statistics.median(processors):8.3f} s"
        )
    ratio = statistics.median(a.wall / b.wall for a, b in pairs)
    of_processors = statistics.median(a.processor / b.processor for a, b in pairs)
    print(
        f"  ratio ours/peer {ratio:.3f}, of processor seconds {of_processors:.3f}  (median of {runs} pairs)", flush=True
    )
    return ratio
