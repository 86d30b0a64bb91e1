"""Limits of GPU memory: what is written, and what PyTorch is told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from ftl_config.memory_size import parse_memory_size
from ftl_runner.models.memory_limit import limit_gpu_memory, memory_limit
from tests.unit.runner.snippets import config_of, needs_cpu

GIB = 2**30


AMOUNTS: list[tuple[int | str, int]] = [
    ("20GiB", 20 * GIB),
    (20, 20 * GIB),
    ("20", 20 * GIB),
    ("1.5 gib", 3 * GIB // 2),
    ("20GB", 20 * 10**9),
    ("500MiB", 500 * 2**20),
    ("1TiB", 1024 * GIB),
    ("1000MB", 10**9),
    ("12B", 12),
]


@pytest.mark.parametrize(("value", "size"), AMOUNTS)
def test_amounts(value: int | str, size: int) -> None:
    assert parse_memory_size(value, unit="GiB") == size


@pytest.mark.parametrize("value", ["", "GiB", "-5GiB", "5 apples", "0GiB", 0, "1e3MB", "5GiB5"])
def test_what_is_no_amount(value: int | str) -> None:
    with pytest.raises(ValueError, match=r"amount of memory|no memory"):
        parse_memory_size(value, unit="GiB")


@pytest.mark.parametrize(
    ("lines", "limits"),
    [
        ("micro_batch_size: 1", [None, None]),
        ("gpu_memory_limit: 20", [20 * GIB, 20 * GIB]),
        ("max_memory: {0: 10GiB, 1: 20GiB, cpu: 99GiB}", [10 * GIB, 20 * GIB]),
        ("max_memory: {1: 4294967296}", [None, 4 * GIB]),
    ],
)
def test_limit_of_each_gpu(lines: str, limits: list[int | None]) -> None:
    assert [memory_limit(config_of(lines), device) for device in (0, 1)] == limits


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("gpu_memory_limit: 20GiB", [(0.25, 1)]),
        ("gpu_memory_limit: 100", [(1.0, 1)]),
        ("max_memory: {1: 40GiB}", [(0.5, 1)]),
        ("max_memory: {0: 40GiB}", []),
    ],
)
def test_share_of_the_gpu(lines: str, expected: list[tuple[float, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The second GPU of a node, of 80 GiB."""
    told: list[tuple[float, int]] = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * GIB))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *given: told.append(given))
    limit_gpu_memory(config_of(lines))
    assert told == expected


@needs_cpu
def test_without_a_gpu_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    limit_gpu_memory(config_of("gpu_memory_limit: 20GiB"))
    assert "no effect here: there is no GPU" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_more_than_the_limit_is_out_of_memory() -> None:
    limit_gpu_memory(config_of("gpu_memory_limit: 1GiB"))
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError):
            torch.empty(2 * GIB, dtype=torch.uint8, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
