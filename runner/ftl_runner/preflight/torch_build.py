"""Whether the installed torch and the node's driver fit each other, found out without importing torch."""

from __future__ import annotations

import ctypes
import os
import re
import runpy
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftl_config.preflight import Finding
    from ftl_runner.preflight.node import Node

CHECK = "driver"


@dataclass(frozen=True)
class TorchBuild:
    """What torch was built for. ``cuda`` is like ``13.0``, ``rocm`` like ``7.0.51831``; both empty for CPUs."""

    version: str = ""
    cuda: str = ""
    rocm: str = ""

    def __str__(self) -> str:
        if not self.version:
            return "no torch"
        flavour = f"CUDA {self.cuda}" if self.cuda else f"ROCm {_two_parts(self.rocm)}" if self.rocm else "CPU"
        return f"torch {self.version} for {flavour}"


def installed_torch() -> TorchBuild:
    """What torch's own version file says; importing torch takes seconds."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return TorchBuild()
    facts = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    return TorchBuild(str(facts["__version__"]), facts.get("cuda") or "", facts.get("hip") or "")


def cuda_of_driver(library: str = "libcuda.so.1") -> tuple[int, int] | None:
    """The newest CUDA version of the driver's library (of a compatibility package, where one comes first)."""
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return None
    version = ctypes.c_int(0)
    if driver.cuDriverGetVersion(ctypes.byref(version)):
        return None
    return version.value // 1000, version.value % 1000 // 10


def check_driver(node: Node) -> Iterator[Finding]:
    """torch can use the GPUs that are here."""
    build, vendor = node.torch, node.gpus.vendor
    if not build.version:
        fix = "pip install 'ftl-tune[runner]', or use one of ftl's images"
        yield node.failed(CHECK, "torch is not installed", wanted="torch", fix=fix)
    elif vendor == "nvidia":
        yield _nvidia(node)
    elif vendor == "amd":
        yield _amd(node)
    else:
        yield node.passed(CHECK, str(build))


def _nvidia(node: Node) -> Finding:
    build, driver = node.torch, node.cuda_driver
    if not build.cuda:
        return _wrong_build(node, "NVIDIA", "CUDA", "cuda")
    if driver is None:
        fix = (
            "start the container with --gpus all and NVIDIA_DRIVER_CAPABILITIES=compute,utility, or install the driver"
        )
        return node.failed(CHECK, f"{build}; no libcuda.so.1", wanted="NVIDIA's driver library", fix=fix)
    found = f"{build}, driver for CUDA {driver[0]}.{driver[1]}"
    # Within a major version a newer CUDA runs on an older driver (minor version compatibility).
    if driver[0] < int(build.cuda.split(".")[0]):
        fix = f"update NVIDIA's driver, or use an image (launch.image) whose torch is for CUDA {driver[0]}"
        return node.failed(CHECK, found, wanted=f"a driver for CUDA {build.cuda}", fix=fix)
    return node.passed(CHECK, found)


def _amd(node: Node, device: Path = Path("/dev/kfd")) -> Finding:
    if not node.torch.rocm:
        return _wrong_build(node, "AMD", "ROCm", "rocm")
    if not os.access(device, os.R_OK | os.W_OK):
        fix = "start the container with --device=/dev/kfd --device=/dev/dri --group-add=video (and render)"
        return node.failed(CHECK, f"{device} cannot be opened", wanted="access to AMD's driver", fix=fix)
    return node.passed(CHECK, str(node.torch))


def _wrong_build(node: Node, maker: str, wanted: str, flavour: str) -> Finding:
    """Training would go on a CPU, at a hundredth of the speed; where nobody asked for GPUs, that may be meant."""
    tell = node.failed if node.expectations.wants_gpus else node.warning
    fix = f"use the {flavour} image, or install torch for {wanted}"
    return tell(CHECK, f"{node.torch} beside GPUs of {maker}", wanted=f"torch for {wanted}", fix=fix)


def _two_parts(version: str) -> str:
    return ".".join(re.split(r"[.\-]", version)[:2])
