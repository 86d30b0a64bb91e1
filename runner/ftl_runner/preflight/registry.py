"""The checks of a node, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from ftl_runner.preflight.disk import check_disk, check_shared_memory
from ftl_runner.preflight.gpus import check_gpus
from ftl_runner.preflight.interconnect import check_interconnect
from ftl_runner.preflight.store import check_store
from ftl_runner.preflight.torch_build import check_driver

if TYPE_CHECKING:
    from ftl_config.preflight import Finding
    from ftl_runner.preflight.node import Node

Check = Callable[["Node"], Iterable["Finding"]]

CHECKS: Mapping[str, Check] = {
    "gpus": check_gpus,
    "driver": check_driver,
    "disk": check_disk,
    "shared memory": check_shared_memory,
    "store": check_store,
    "interconnect": check_interconnect,
}


def run_checks(node: Node, checks: Mapping[str, Check] = CHECKS) -> list[Finding]:
    """What every check found. One that cannot be carried out says so, and keeps nobody from training."""
    findings: list[Finding] = []
    for name, check in checks.items():
        try:
            findings += check(node)
        except Exception as error:
            findings.append(node.warning(name, f"could not be looked at: {type(error).__name__}: {error}"))
    return findings
