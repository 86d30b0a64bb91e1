"""Every row in one bin, no bin overfull, the same bins for the same seed, and tight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftl_runner.data.pack import pack

LENGTHS = st.lists(st.integers(1, 128), max_size=200)


@settings(max_examples=80, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 5), max_rows=st.sampled_from([None, 1, 3]), in_order=st.booleans())
def test_every_row_is_in_one_bin_and_no_bin_is_overfull(
    lengths: list[int], seed: int, max_rows: int | None, in_order: bool
) -> None:
    packing = pack(lengths, 128, seed, max_rows=max_rows, in_order=in_order)
    assert sorted(packing.rows.tolist()) == list(range(len(lengths)))
    sizes = np.array(lengths, dtype=np.int64)
    for number in range(len(packing)):
        members = packing.bin(number)
        assert 0 < len(members) <= (max_rows or len(lengths))
        assert sizes[members].sum() <= 128
    if in_order:
        assert packing.rows.tolist() == list(range(len(lengths)))


@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS)
def test_same_seed_same_bins(lengths: list[int]) -> None:
    first, second = pack(lengths, 128, 7), pack(lengths, 128, 7)
    assert first.rows.tolist() == second.rows.tolist()
    assert first.bounds.tolist() == second.bounds.tolist()


def test_another_seed_moves_rows_but_needs_as_many_bins() -> None:
    lengths = np.random.default_rng(0).integers(10, 400, 500)
    first, second = pack(lengths, 1024, 1), pack(lengths, 1024, 2)
    assert first.rows.tolist() != second.rows.tolist()
    assert len(first) == len(second)


@pytest.mark.parametrize(
    ("lengths", "capacity", "wanted"),
    [
        (np.clip(np.random.default_rng(0).lognormal(5.95, 0.75, 20_000), 20, 2048).astype(int), 2048, 0.997),
        (np.random.default_rng(0).integers(90, 190, 554), 512, 0.985),
        (np.clip(np.random.default_rng(0).lognormal(4.6, 0.7, 20_000), 10, 2000).astype(int), 2048, 0.999),
    ],
    ids=["chat", "short-rows", "alpaca"],
)
def test_bins_are_full(lengths: np.ndarray, capacity: int, wanted: float) -> None:
    packing = pack(lengths, capacity, 42, max_rows=200)
    assert lengths.sum() / (len(packing) * capacity) >= wanted


def test_no_rows_no_bins() -> None:
    assert len(pack([], 128, 0)) == 0
