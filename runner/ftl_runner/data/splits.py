"""Splits of a data set: by words in the names of files, and slices such as ``train[:10%]``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ftl_runner.data.errors import DataError

_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


def of_split(files: Sequence[Path], split: str, where: str) -> list[Path]:
    """The files of a split, by words in their names; all of them where no name has such a word."""
    named = {path: _split_in_name(path) for path in files}
    if not any(named.values()):
        if split == "train":
            return list(files)
        raise DataError(f"{where} has no split {split!r}: no file is named after one", "leave split: out")
    wanted = next((key for key, words in _SPLIT_WORDS.items() if split in words), split)
    chosen = [path for path, word in named.items() if word == wanted]
    if not chosen:
        known = sorted({word for word in named.values() if word})
        raise DataError(f"{where} has no split {split!r}", f"it has: {', '.join(known)}; choose one with split:")
    return chosen


def _split_in_name(path: Path) -> str | None:
    words = set(re.split(r"[^a-z]+", f"{path.parent.name}/{path.name}".lower()))
    for split, names in _SPLIT_WORDS.items():
        if words & set(names):
            return split
    return None


def split_name(split: str) -> tuple[str, str]:
    """``train[:10%]`` -> (``train``, ``:10%``)."""
    match = re.fullmatch(r"\s*([\w.-]+)\s*(?:\[([^\]]*)\])?\s*", split)
    if match is None:
        raise DataError(f"split {split!r} is not understood", "as train, train[:10%] or train[100:200]")
    return match[1], (match[2] or "").strip()


def parse_slice(part: str, total: int, where: str) -> tuple[int, int]:
    """Row numbers of ``:10%``, ``100:200``, ``-50:``; percentages are rounded to the nearest row."""
    match = re.fullmatch(r"(-?\d+%?)?\s*:\s*(-?\d+%?)?", part)
    if match is None:
        raise DataError(f"{where}: split slice [{part}] is not understood", "as [:10%] or [100:200]")
    start, stop = (_slice_end(end, total, default) for end, default in ((match[1], 0), (match[2], total)))
    return start, max(start, stop)


def parse_rows(part: str, where: str) -> tuple[int, int | None]:
    """First and last row number of a slice of a stream, whose length nobody knows.

    Raises:
        DataError: a slice that counts from the end, or in percent.
    """
    match = re.fullmatch(r"(\d+)?\s*:?\s*(\d+)?", part)
    if match is None or (part and ":" not in part):
        raise DataError(f"{where}: split slice [{part}] cannot be streamed", "count rows from the start: [100:200]")
    return int(match[1] or 0), int(match[2]) if match[2] else None


def _slice_end(end: str | None, total: int, default: int) -> int:
    if end is None:
        return default
    number = round(total * int(end[:-1]) / 100) if end.endswith("%") else int(end)
    return min(max(number + total if number < 0 else number, 0), total)
