"""Lengths of sequences in bins, for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bins: TypeAlias = tuple[tuple[int, int], ...]
"""(longest length of the bin, sequences in it), in order."""

_NUM_BINS = 64
_WIDEST = 4
"""Lengths over so many times ``sequence_len`` are in the last bin."""


def power_bins(lengths: npt.NDArray[np.int64]) -> Bins:
    """Bins that double: up to 16, 32, 64 tokens, ..."""
    tops = 2 ** np.arange(4, int(np.ceil(np.log2(max(17, lengths.max())))) + 1)
    counts = np.histogram(lengths, bins=[0, *(tops + 1)])[0]
    return tuple((int(top), int(count)) for top, count in zip(tops, counts, strict=True))


def even_bins(lengths: npt.NDArray[np.int64], sequence_len: int) -> Bins:
    """Bins of one width, 64 of them up to ``sequence_len``."""
    different, counts = np.unique(lengths, return_counts=True)
    bins: Counter[int] = Counter()
    for length, count in zip(different.tolist(), counts.tolist(), strict=True):
        bins[even_top(length, sequence_len)] += count
    return bins_of(bins)


def bins_of(counts: Mapping[int, int]) -> Bins:
    """Bins from counts by ``power_top`` or ``even_top``."""
    return tuple(sorted(counts.items()))


def power_top(length: int) -> int:
    """The smallest power of two that is not below a length."""
    return 1 << max(length - 1, 1).bit_length()


def even_top(length: int, sequence_len: int) -> int:
    """Longest length of a length's bin among those of one width."""
    width = max(1, sequence_len // _NUM_BINS)
    return min(-(-length // width) * width, (_WIDEST * sequence_len // width + 1) * width)
