"""Whether the collectives of a run over several nodes will find the fast network that a node has.

What goes wrong here is silent: NCCL and RCCL take plain TCP instead, which is ten to a hundred times slower.
"""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftl_config.preflight import Finding
    from ftl_runner.preflight.node import Node

CHECK = "interconnect"

_EFA_PLUGINS = ("libnccl-net-ofi.so", "libnccl-net.so", "libnccl-net-aws-ofi.so")
"""Names of aws-ofi-nccl, newest first."""
_MIN_LOCKED_BYTES = 10**9


def check_interconnect(
    node: Node, root: Path = Path("/"), locked_bytes: int | None = None, plugins: tuple[str, ...] = _EFA_PLUGINS
) -> Iterator[Finding]:
    """Adapters for remote memory access are there for this process, with memory that may be locked for them."""
    if node.expectations.num_nodes == 1 or not node.gpus.names:
        return
    drivers = _adapters(root)
    problems = list(_problems(node, root, drivers, _locked_bytes() if locked_bytes is None else locked_bytes, plugins))
    yield from problems
    if not problems:
        kinds = ", ".join(sorted(set(drivers.values())))
        yield node.passed(CHECK, f"{len(drivers)} adapters ({kinds})" if drivers else "TCP")


def _problems(
    node: Node, root: Path, drivers: dict[str, str], locked_bytes: int, plugins: tuple[str, ...]
) -> Iterator[Finding]:
    if not drivers:
        return
    names = f"{len(drivers)} adapters ({', '.join(sorted(set(drivers.values())))})"
    if not list((root / "dev/infiniband").glob("uverbs*")):
        fix = "docker run --device=/dev/infiniband --cap-add=IPC_LOCK; launch.network_tier: best where the cloud has it"
        yield node.warning(CHECK, f"{names}, and no /dev/infiniband", wanted="access to them", fix=fix)
    if "efa" in drivers.values() and not any(_loads(name) for name in plugins):
        fix = "an image with Amazon's EFA installer (libfabric and aws-ofi-nccl)"
        yield node.warning(CHECK, f"{names}, and no aws-ofi-nccl", wanted="NCCL's plugin for EFA", fix=fix)
    if locked_bytes < _MIN_LOCKED_BYTES:
        fix = "docker run --ulimit memlock=-1, or memlock unlimited in /etc/security/limits.conf"
        yield node.warning(CHECK, f"{locked_bytes // 1024} KiB may be locked", wanted="no limit (ulimit -l)", fix=fix)


def _adapters(root: Path) -> dict[str, str]:
    """RDMA devices and their kernel drivers: mlx5_core, efa, bnxt_re, ..."""
    found = {}
    for device in sorted((root / "sys/class/infiniband").glob("*")):
        driver = device / "device/driver"
        found[device.name] = driver.resolve().name if driver.exists() else "unknown"
    return found


def _locked_bytes() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return 2**63 if soft == resource.RLIM_INFINITY else soft


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
