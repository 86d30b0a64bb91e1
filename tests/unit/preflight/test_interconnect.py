"""Fast networks that NCCL would not find, on trees of files as the kernel lays them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftl_config.preflight import Finding, Outcome
from ftl_runner.preflight.gpus import Gpus
from ftl_runner.preflight.interconnect import check_interconnect
from tests.unit.preflight.nodes import eight, expect, node

PLENTY = 2**40
A_LIBRARY = ("libc.so.6",)
"""Stands for aws-ofi-nccl where it is there: any library that loads."""


def machine(root: Path, driver: str | None, *, device_files: bool = True) -> Path:
    (root / "sys/class/infiniband").mkdir(parents=True)
    if driver:
        target = root / "sys/bus/pci/drivers" / driver
        device = root / "sys/class/infiniband/rdmap0/device"
        target.mkdir(parents=True)
        device.mkdir(parents=True)
        (device / "driver").symlink_to(target)
    if device_files:
        (root / "dev/infiniband").mkdir(parents=True)
        (root / "dev/infiniband/uverbs0").touch()
    return root


def check(root: Path, *, num_nodes: int = 2, gpus: Gpus | None = None, locked: int = PLENTY) -> list[Finding]:
    there = node(expect(num_nodes=num_nodes), gpus=eight() if gpus is None else gpus)
    return list(check_interconnect(there, root, locked_bytes=locked, plugins=("libno-such-plugin.so",)))


def test_infiniband_that_is_ready(tmp_path: Path) -> None:
    (finding,) = check(machine(tmp_path, "mlx5_core"))
    assert (finding.outcome, finding.found) == (Outcome.PASSED, "1 adapters (mlx5_core)")


def test_plain_ethernet_passes(tmp_path: Path) -> None:
    (finding,) = check(machine(tmp_path, None, device_files=False))
    assert (finding.outcome, finding.found) == (Outcome.PASSED, "TCP")


@pytest.mark.parametrize(("num_nodes", "gpus"), [(1, None), (2, Gpus())])
def test_nothing_to_ask_without_gpus_on_several_nodes(num_nodes: int, gpus: Gpus | None, tmp_path: Path) -> None:
    assert check(machine(tmp_path, "mlx5_core", device_files=False), num_nodes=num_nodes, gpus=gpus) == []


def test_a_container_without_the_devices(tmp_path: Path) -> None:
    (finding,) = check(machine(tmp_path, "mlx5_core", device_files=False))
    assert finding.outcome is Outcome.WARNING
    assert "--device=/dev/infiniband" in finding.fix


def test_efa_needs_its_plugin(tmp_path: Path) -> None:
    root = machine(tmp_path, "efa")
    (finding,) = check(root)
    assert finding.outcome is Outcome.WARNING
    assert "aws-ofi-nccl" in finding.found
    there = node(expect(num_nodes=2), gpus=eight())
    (passed,) = check_interconnect(there, root, locked_bytes=PLENTY, plugins=A_LIBRARY)
    assert passed.outcome is Outcome.PASSED


def test_memory_that_may_not_be_locked(tmp_path: Path) -> None:
    (finding,) = check(machine(tmp_path, "mlx5_core"), locked=8 * 2**20)
    assert finding.found == "8192 KiB may be locked"
    assert "memlock" in finding.fix
