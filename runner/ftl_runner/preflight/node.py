"""What the checks look at: one node, what a run wants of it, and the facts that several checks share."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftl_config.preflight import Finding, Outcome
from ftl_config.protocol import Env
from ftl_runner.preflight.gpus import Gpus, find_gpus
from ftl_runner.preflight.torch_build import TorchBuild, cuda_of_driver, installed_torch

if TYPE_CHECKING:
    from ftl_runner.context import TrainJob


@dataclass(frozen=True)
class Expectations:
    """What a run wants of each of its nodes. Picklable; holds no secret."""

    output_dir: str
    store_uri: str
    accelerators: tuple[str, ...] = ()
    """``H100:8``, any one of them; empty where nothing was asked for."""
    num_nodes: int = 1
    workers_per_node: int = 1
    loader_processes: int = 0
    """Processes that read data, for each worker."""
    checkpoint_bytes: int = 0
    """Rough size of all checkpoints that are kept at a time; 0 where it is not known."""
    gpus_offered: int | None = None
    """What Ray gives away on this node; None outside Ray."""
    head_probe: str | None = None
    """Key of an object that the head wrote to the checkpoint store; None where there is one node."""

    @property
    def wants_gpus(self) -> bool:
        return bool(self.accelerators or self.gpus_offered)


@dataclass(frozen=True)
class Node:
    """This machine, looked at once."""

    name: str
    expectations: Expectations
    gpus: Gpus = field(default_factory=Gpus)
    torch: TorchBuild = field(default_factory=TorchBuild)
    cuda_driver: tuple[int, int] | None = None
    """Newest CUDA that the driver knows, or None without a driver."""

    def passed(self, check: str, found: str) -> Finding:
        return Finding(self.name, check, Outcome.PASSED, found)

    def warning(self, check: str, found: str, *, wanted: str = "", fix: str = "") -> Finding:
        return Finding(self.name, check, Outcome.WARNING, found, wanted, fix)

    def failed(self, check: str, found: str, *, wanted: str = "", fix: str = "", exit_code: int = 1) -> Finding:
        return Finding(self.name, check, Outcome.FAILED, found, wanted, fix, exit_code)


def look_at(name: str, expectations: Expectations) -> Node:
    """This machine as it is."""
    gpus = find_gpus()
    cuda = cuda_of_driver() if gpus.vendor == "nvidia" else None
    return Node(name, expectations, gpus, installed_torch(), cuda)


def host_name() -> str:
    """This machine, as a table calls it."""
    return socket.gethostname().split(".")[0]


def expectations_of(job: TrainJob, *, num_nodes: int, num_workers: int) -> Expectations:
    """What a job wants of its nodes, from its config and the launcher's variables."""
    from ftl_runner.preflight.checkpoint_size import kept_bytes

    asked = os.environ.get(Env.ACCELERATORS, "")
    return Expectations(
        output_dir=str(job.output_dir),
        store_uri=job.store_uri,
        accelerators=tuple(part for part in asked.split(",") if part),
        num_nodes=num_nodes,
        workers_per_node=-(-num_workers // num_nodes),
        loader_processes=job.loaded.config.data.dataloader_num_workers or 0,
        checkpoint_bytes=kept_bytes(job.loaded.config),
    )


def is_wanted(job: TrainJob) -> bool:
    """Whether nodes are to be checked: not with ``launch.preflight: false`` or FTL_SKIP_PREFLIGHT=1."""
    skipped = os.environ.get(Env.SKIP_PREFLIGHT, "").lower() in ("1", "true", "yes", "on")
    return job.loaded.config.launch.preflight and not skipped


def verdict_nodes(findings: Sequence[Finding]) -> list[str]:
    """The nodes that are not fit, each once."""
    return list(dict.fromkeys(finding.node for finding in findings if finding.outcome is Outcome.FAILED))
