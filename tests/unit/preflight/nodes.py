"""Nodes to check: as they are, and with what a test says of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftl_config.preflight import Finding
from ftl_runner.preflight.gpus import Gpus
from ftl_runner.preflight.node import Expectations, Node
from ftl_runner.preflight.torch_build import TorchBuild

CUDA = TorchBuild("2.13.0+cu130", cuda="13.0")
ROCM = TorchBuild("2.13.0+rocm7.0", rocm="7.0.51831-a3e329ad8")


def expect(tmp_path: Path | None = None, **values: Any) -> Expectations:
    folder = str(tmp_path / "out") if tmp_path else "out"
    return Expectations(**{"output_dir": folder, "store_uri": folder, **values})


def node(expectations: Expectations | None = None, **facts: Any) -> Node:
    return Node("n1", expectations or expect(), **facts)


def eight(name: str = "NVIDIA H100 80GB HBM3", count: int = 8, vendor: str = "nvidia") -> Gpus:
    return Gpus((name,) * count, vendor)


def only(findings: Iterable[Finding]) -> Finding:
    (found,) = findings
    return found
