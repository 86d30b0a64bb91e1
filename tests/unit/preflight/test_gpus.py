"""GPU count and kind, against what the plan asked for; and how they are found on a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftl_config.preflight import Outcome
from ftl_runner.preflight.gpus import Gpus, _is_kind, _nvidia_without_tool, check_gpus, find_gpus
from ftl_runner.preflight.torch_build import TorchBuild, check_driver, cuda_of_driver, installed_torch
from tests.unit.preflight.nodes import CUDA, ROCM, eight, expect, node, only

A100 = "NVIDIA A100-SXM4-40GB"


@pytest.mark.parametrize(
    ("wanted", "found", "outcome"),
    [
        ((), Gpus(), Outcome.PASSED),
        (("H100:8",), eight(), Outcome.PASSED),
        (("H100:4",), eight(), Outcome.PASSED),
        (("A100:8", "H100:4"), eight(count=4), Outcome.PASSED),
        (("H100:8",), eight(count=7), Outcome.FAILED),
        (("H100:8",), Gpus(), Outcome.FAILED),
        (("H100:8", "A100:4"), eight(count=4), Outcome.FAILED),
        (("H100:8",), eight(A100), Outcome.WARNING),
        (("A100-80GB:8",), eight(A100), Outcome.WARNING),
        (("H100:1",), Gpus(vendor="nvidia", problem="Unable to determine the device handle"), Outcome.FAILED),
    ],
)
def test_gpus_are_those_of_the_plan(wanted: tuple[str, ...], found: Gpus, outcome: Outcome) -> None:
    finding = only(check_gpus(node(expect(accelerators=wanted), gpus=found)))
    assert finding.outcome is outcome, finding
    if outcome is not Outcome.PASSED:
        assert finding.wanted == " or ".join(wanted)
        assert finding.fix


def test_gpus_that_ray_does_not_give_away_are_missing() -> None:
    finding = only(check_gpus(node(expect(accelerators=("H100:8",), gpus_offered=2), gpus=eight())))
    assert finding.outcome is Outcome.FAILED
    assert finding.found == "2 of 8 x NVIDIA H100 80GB HBM3 offered by Ray"


@pytest.mark.parametrize(
    ("wanted", "name", "same"),
    [
        ("A100-80GB", "NVIDIA A100-SXM4-80GB", True),
        ("A100-80GB", "NVIDIA A100 80GB PCIe", True),
        ("A100", "NVIDIA A100-SXM4-40GB", True),
        ("H100-SXM", "NVIDIA H100 80GB HBM3", True),
        ("T4", "Tesla T4", True),
        ("V100-32GB", "Tesla V100-SXM2-32GB", True),
        ("RTX4090", "NVIDIA GeForce RTX 4090", True),
        ("RTX6000-Ada", "NVIDIA RTX 6000 Ada Generation", True),
        ("RTXA6000", "NVIDIA RTX A6000", True),
        ("RTXPRO6000", "NVIDIA RTX PRO 6000 Blackwell Server Edition", True),
        ("MI300X", "AMD MI300X", True),
        ("A10", "NVIDIA A100-SXM4-40GB", False),
        ("A10", "NVIDIA A10G", False),
        ("L4", "NVIDIA L40S", False),
        ("H100", "NVIDIA GH200 480GB", False),
        ("A100-80GB", "NVIDIA A100-SXM4-40GB", False),
        ("RTX4090", "NVIDIA GeForce RTX 3090", False),
    ],
)
def test_names_of_clouds_and_names_of_drivers(wanted: str, name: str, same: bool) -> None:
    assert _is_kind(wanted, name) is same


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all there is in PATH; no variable hides a GPU."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return folder


def nvidia_smi(tools: Path, script: str) -> None:
    tool = tools / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


@pytest.mark.parametrize(
    ("visible", "count"),
    [(None, 4), ("0,2", 2), ("", 0), ("-1", 0), ("9", 0), ("GPU-8f2c1d3a,GPU-0b1a2c3d,MIG-77", 3)],
)
def test_nvidias_tool_less_what_is_hidden(
    visible: str | None, count: int, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(tools, 'for i in 1 2 3 4; do echo "NVIDIA L4"; done')
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert find_gpus() == Gpus(("NVIDIA L4",) * count, "nvidia")


def test_a_broken_driver_is_told_in_its_own_words(tools: Path) -> None:
    nvidia_smi(tools, "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    gpus = find_gpus()
    finding = only(check_gpus(node(expect(accelerators=("L4:1",)), gpus=gpus)))
    assert finding.outcome is Outcome.FAILED
    assert finding.found == "Failed to initialize NVML: Driver/library version mismatch"


def test_a_driver_without_its_tools(tmp_path: Path) -> None:
    for bus in ("0000:07:00.0", "0000:0f:00.0"):
        folder = tmp_path / "proc/driver/nvidia/gpus" / bus
        folder.mkdir(parents=True)
        (folder / "information").write_text("Model: \t\t NVIDIA A10G\nIRQ:   \t\t 45\n")
    assert _nvidia_without_tool(tmp_path) == Gpus(("NVIDIA A10G",) * 2, "nvidia")


def test_amds_gpus_are_those_with_a_device_file(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU is a node of that topology too, and a container may be given two of eight GPUs."""
    root = tmp_path / "root"
    for number, minor in enumerate(("", "128", "136", "144")):
        folder = root / f"sys/class/kfd/kfd/topology/nodes/{number}"
        folder.mkdir(parents=True)
        simd = 1216 if minor else 0
        (folder / "properties").write_text(f"simd_count {simd}\ndevice_id 29857\ndrm_render_minor {minor or 0}\n")
    (root / "dev/dri").mkdir(parents=True)
    for minor in ("128", "136"):
        (root / f"dev/dri/renderD{minor}").touch()
    assert find_gpus(root) == Gpus(("AMD MI300X",) * 2, "amd")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    assert find_gpus(root) == Gpus(("AMD MI300X",), "amd")


@pytest.mark.parametrize(
    ("build", "gpus", "driver", "asked", "outcome"),
    [
        (CUDA, eight(), (13, 0), True, Outcome.PASSED),
        (TorchBuild("2.13.0", cuda="12.8"), eight(), (12, 4), True, Outcome.PASSED),
        (TorchBuild("2.13.0", cuda="12.8"), eight(), (13, 1), True, Outcome.PASSED),
        (CUDA, eight(), (12, 8), True, Outcome.FAILED),
        (CUDA, eight(), None, True, Outcome.FAILED),
        (ROCM, eight(), (13, 0), True, Outcome.FAILED),
        (TorchBuild("2.13.0+cpu"), eight(), (13, 0), True, Outcome.FAILED),
        (TorchBuild("2.13.0+cpu"), eight(), (13, 0), False, Outcome.WARNING),
        (CUDA, eight("AMD MI300X", vendor="amd"), None, True, Outcome.FAILED),
        (TorchBuild("2.13.0+cpu"), Gpus(), None, False, Outcome.PASSED),
        (TorchBuild(), Gpus(), None, False, Outcome.FAILED),
    ],
)
def test_torch_and_the_driver_fit(
    build: TorchBuild, gpus: Gpus, driver: tuple[int, int] | None, asked: bool, outcome: Outcome
) -> None:
    wanted = expect(accelerators=("H100:8",) if asked else ())
    finding = only(check_driver(node(wanted, gpus=gpus, torch=build, cuda_driver=driver)))
    assert finding.outcome is outcome, finding
    assert bool(finding.fix) is (outcome is not Outcome.PASSED)


def test_rocm_needs_amds_device_file() -> None:
    if Path("/dev/kfd").exists():
        pytest.skip("this machine has one")
    finding = only(check_driver(node(expect(), gpus=eight("AMD MI300X", vendor="amd"), torch=ROCM)))
    assert finding.outcome is Outcome.FAILED
    assert "--device=/dev/kfd" in finding.fix


def test_the_installed_torch_is_read_without_importing_it() -> None:
    import torch

    assert installed_torch() == TorchBuild(str(torch.__version__), torch.version.cuda or "", torch.version.hip or "")


def test_no_driver_has_no_version() -> None:
    assert cuda_of_driver("libno-such-driver.so.1") is None
