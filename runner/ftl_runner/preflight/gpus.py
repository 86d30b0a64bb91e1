"""Which GPUs this node has, and whether they are those that the plan asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftl_config.preflight import Finding
    from ftl_runner.preflight.node import Node

CHECK = "gpus"

_TOOL_TIMEOUT_S = 30
"""A driver without persistence wakes every GPU first, which takes seconds."""

_AMD_NAMES = {
    0x7408: "MI250X",
    0x740C: "MI250X",
    0x740F: "MI210",
    0x738C: "MI100",
    0x74A0: "MI300A",
    0x74A1: "MI300X",
    0x74A2: "MI308X",
    0x74A5: "MI325X",
    0x74A9: "MI300X",
    0x75A0: "MI350X",
    0x75A3: "MI355X",
}
"""PCI device ids of AMD's accelerators: the kernel knows no names."""


@dataclass(frozen=True)
class Gpus:
    """The GPUs that a process here may use. ``problem`` is why they could not be listed, where they could not."""

    names: tuple[str, ...] = ()
    vendor: str = ""
    """nvidia, amd, or nothing."""
    problem: str = ""

    def __str__(self) -> str:
        kinds = Counter(self.names)
        return ", ".join(f"{count} x {name}" for name, count in kinds.items()) or "none"


def find_gpus(root: Path = Path("/")) -> Gpus:
    """The GPUs as NVIDIA's tool or AMD's kernel driver list them, less what the visibility variables leave out."""
    if list((root / "dev").glob("nvidia[0-9]*")) or shutil.which("nvidia-smi"):
        return _visible(_nvidia(), ("CUDA_VISIBLE_DEVICES",))
    amd = tuple(_amd(root))
    return _visible(Gpus(amd, "amd"), ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")) if amd else Gpus()


def check_gpus(node: Node) -> Iterator[Finding]:
    """As many as the plan wants, and of the kind that it names."""
    gpus, candidates = node.gpus, [_parse(part) for part in node.expectations.accelerators]
    wanted = " or ".join(node.expectations.accelerators)
    fitting = [(name, count) for name, count in candidates if any(_is_kind(name, found) for found in gpus.names)]
    usable = _usable(node)
    if gpus.problem and node.expectations.wants_gpus:
        yield node.failed(CHECK, gpus.problem, wanted=wanted, fix="reboot the node, or take another one")
    elif candidates and usable < min(count for _, count in fitting or candidates):
        yield node.failed(CHECK, _found(node, usable), wanted=wanted, fix=_count_fix(node, usable))
    elif candidates and not fitting:
        fix = "name in launch.accelerators what the nodes have: memory and speed were planned for another kind"
        yield node.warning(CHECK, str(gpus), wanted=wanted, fix=fix)
    else:
        yield node.passed(CHECK, str(gpus))


def _parse(accelerator: str) -> tuple[str, int]:
    name, _, count = accelerator.partition(":")
    return name, int(count or 1)


def _usable(node: Node) -> int:
    offered = node.expectations.gpus_offered
    return len(node.gpus.names) if offered is None else min(offered, len(node.gpus.names) or offered)


def _found(node: Node, usable: int) -> str:
    return str(node.gpus) if usable == len(node.gpus.names) else f"{usable} of {node.gpus} offered by Ray"


def _count_fix(node: Node, usable: int) -> str:
    if usable < len(node.gpus.names):
        return "start Ray on the node with all of its GPUs (CUDA_VISIBLE_DEVICES, ray start --num-gpus)"
    return "ask for what the node has (launch.accelerators), or see why its GPUs are not there (nvidia-smi, rocm-smi)"


def _is_kind(wanted: str, name: str) -> bool:
    """Whether the driver's name (``NVIDIA A100-SXM4-80GB``) is of the kind that users call ``A100-80GB``."""
    model, *rest = wanted.upper().split("-")
    words = re.sub(r"RTX (PRO )?", lambda match: "RTX" + ("PRO" if match[1] else ""), name.upper())
    if not re.search(rf"(?<![A-Z0-9]){re.escape(model)}(?![A-Z0-9])", words):
        return False
    sizes = [part for part in rest if re.fullmatch(r"\d+GB", part)]
    return all(re.search(rf"(?<!\d){size}", words) for size in sizes)


def _nvidia() -> Gpus:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return _nvidia_without_tool()
    query = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=_TOOL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return Gpus(vendor="nvidia", problem=f"nvidia-smi gave no answer within {_TOOL_TIMEOUT_S} s")
    lines = [line.strip() for line in told.stdout.splitlines() if line.strip()]
    if told.returncode:
        return Gpus(vendor="nvidia", problem=(lines + told.stderr.split("\n") + ["nvidia-smi failed"])[0])
    return Gpus(tuple(lines), "nvidia")


def _nvidia_without_tool(root: Path = Path("/")) -> Gpus:
    """A container may have the driver without its tools."""
    files = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    models = [line.partition(":")[2].strip() for file in files for line in file.read_text().splitlines()[:1]]
    return Gpus(tuple(models), "nvidia")


def _amd(root: Path) -> Iterator[str]:
    """GPUs in the kernel's topology whose device file is here: a container may be given some of them."""
    for file in sorted((root / "sys/class/kfd/kfd/topology/nodes").glob("*/properties")):
        values = dict(line.split(maxsplit=1) for line in file.read_text().splitlines() if " " in line)
        device = root / f"dev/dri/renderD{values.get('drm_render_minor', '')}"
        if int(values.get("simd_count", 0)) and device.exists():
            number = int(values.get("device_id", 0))
            yield f"AMD {_AMD_NAMES.get(number, f'GPU {number:#x}')}"


def _visible(gpus: Gpus, variables: tuple[str, ...]) -> Gpus:
    """Those that a variable names; device indices choose, anything else (UUIDs) only counts."""
    for variable in variables:
        if variable not in os.environ:
            continue
        parts = [part.strip() for part in os.environ[variable].split(",")]
        chosen = [part for part in parts if part not in ("", "-1", "NoDevFiles")]
        indices = [int(part) for part in chosen if part.isdigit()]
        if len(indices) == len(chosen):
            return Gpus(tuple(gpus.names[i] for i in indices if i < len(gpus.names)), gpus.vendor, gpus.problem)
        return Gpus(gpus.names[: len(chosen)], gpus.vendor, gpus.problem)
    return gpus
