"""Asking the operating system about processes that another ftl started."""

from __future__ import annotations

import os
from pathlib import Path


def process_tag(pid: int | None = None) -> str:
    """``pid:start_ticks``: names one process even after its pid was given to another."""
    pid = os.getpid() if pid is None else pid
    return f"{pid}:{_start_ticks(pid) or 0}"


def is_alive(tag: str | None) -> bool:
    """Whether the process named by `process_tag` still exists and is not a zombie."""
    if not tag:
        return False
    pid_text, _, ticks_text = tag.partition(":")
    pid, ticks = int(pid_text), int(ticks_text or 0)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    found = _start_ticks(pid)
    return found == ticks if ticks and found is not None else _state(pid) != "Z"


def descendants(pid: int) -> list[int]:
    """Every living descendant of a process, from /proc (empty where there is none, as on macOS)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        stat = _stat_fields(int(entry.name))
        if stat:
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found: list[int] = []
    queue = [pid]
    while queue:
        queue += (kids := children.get(queue.pop(), []))
        found += kids
    return found


def _start_ticks(pid: int) -> int | None:
    """Start time in clock ticks since boot (field 22 of /proc/<pid>/stat); None for zombies and without /proc."""
    stat = _stat_fields(pid)
    return int(stat[19]) if stat and stat[0] != "Z" else None


def _state(pid: int) -> str | None:
    stat = _stat_fields(pid)
    return stat[0] if stat else None


def _stat_fields(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the third (state) on: the second may hold spaces and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()
