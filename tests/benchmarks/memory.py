"""Peak memory of a command's whole process tree, from samples of /proc.

Proportional set size where the kernel tells it (pages that forked processes share count once), else resident size.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

_INTERVAL_S = 0.05


def peak_mib(argv: Sequence[str]) -> float:
    """Run a command to its end; the largest memory of the process and all its descendants at one moment, in MiB."""
    peak = 0.0
    with tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen(argv, stdout=log, stderr=log)
        while child.poll() is None:
            peak = max(peak, tree_mib(child.pid))
            time.sleep(_INTERVAL_S)
        if child.returncode:
            log.seek(0)
            raise SystemExit(f"{argv[0]} failed ({child.returncode}):\n{log.read()[-2000:]}")
    return peak


def tree_mib(root: int) -> float:
    """What a process and all its descendants hold now, in MiB."""
    return sum(map(_memory_kib, _tree(root))) / 1024


def _tree(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it ended meanwhile
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(") ", 1)[1].split()[1])
    found = [root]
    for number in found:
        found.extend(child for child, parent in parents.items() if parent == number)
    return found


def _memory_kib(process: int) -> int:
    for name, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/{name}").read_text().splitlines():
                if line.startswith(key):
                    return int(line.split()[1])
    return 0
