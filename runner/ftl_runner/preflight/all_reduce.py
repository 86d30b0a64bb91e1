"""A small all-reduce over all workers, right after they have met and before the model is loaded.

It goes through the very group that training uses, in the processes that train: nothing is started for it, and what it
sets up (NCCL's connections) is set up once.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ftl_config.preflight import Finding, Outcome
from ftl_runner.failures import first_line, is_lost_peer
from ftl_runner.preflight.node import host_name
from ftl_runner.preflight.report import tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from ftl_config.protocol import Event
    from ftl_runner.distributed.ranks import Ranks

CHECK = "all-reduce"
TIMEOUT_S = 180.0
"""NCCL takes tens of seconds to connect a thousand GPUs, and for ever where a firewall is in the way."""

_THREAD = "ftl-all-reduce"
_CPU_BYTES = 2**20
_GPU_BYTES = 2**25
_REPEATS = 3

_SLOW = {"cpu": 0.005, "one node": 1.0, "several nodes": 0.5}
"""GB/s below which something is wrong: less than a 1000BASE-T network, a PCIe 3 x4 slot, a 10 Gb/s network carry."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Measured:
    """What one rank saw: its bus bandwidth in GB/s, or what went wrong."""

    host: str
    gb_per_s: float | None = None
    problem: str = ""


def check_all_reduce(ranks: Ranks, send: Callable[[Event], None], timeout_s: float = TIMEOUT_S) -> None:
    """Collective over all ranks, each of which sends the event, and raises where it failed.

    Raises:
        FtlError: it did not end in time, failed, or gave a wrong sum.
    """
    started = time.monotonic()
    device = _device()
    mine = _measured(lambda: measure(ranks, device), timeout_s)
    findings = judge(ranks.gather(mine), device.type)
    tell(findings, time.monotonic() - started, send)


def measure(ranks: Ranks, device: torch.device) -> float:
    """Bus bandwidth in GB/s of a few all-reduces, as nccl-tests count it.

    Raises:
        ValueError: the sum is not what the ranks put in.
    """
    import torch
    import torch.distributed as dist

    num_bytes = _GPU_BYTES if device.type == "cuda" else _CPU_BYTES
    ones = torch.ones(num_bytes // 4, dtype=torch.float32, device=device)
    dist.all_reduce(ones)  # the first one connects
    if not bool((ones == ranks.world_size).all()):
        raise ValueError(f"the sum over {ranks.world_size} ranks came out as {ones.min():g} to {ones.max():g}")
    started = time.perf_counter()
    for _ in range(_REPEATS):
        dist.all_reduce(ones)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = (time.perf_counter() - started) / _REPEATS
    return num_bytes * 2 * (ranks.world_size - 1) / ranks.world_size / seconds / 1e9


def judge(measured: Sequence[Measured], device_type: str) -> list[Finding]:
    """One finding a rank that has a problem; otherwise one for all of them."""
    broken = [(rank, one) for rank, one in enumerate(measured) if one.problem]
    if broken:
        wanted = f"a sum over {len(measured)} workers"
        return [
            Finding(f"{one.host} (rank {rank})", CHECK, Outcome.FAILED, one.problem, wanted, _broken_fix(device_type))
            for rank, one in broken
        ]
    hosts = list(dict.fromkeys(one.host for one in measured))
    slowest = min(one.gb_per_s or 0.0 for one in measured)
    limit = _SLOW["cpu" if device_type == "cpu" else "one node" if len(hosts) == 1 else "several nodes"]
    found = f"{slowest:.2g} GB/s over {len(measured)} workers"
    if slowest >= limit:
        return [Finding(host, CHECK, Outcome.PASSED, found) for host in hosts]
    fix = _slow_fix(device_type, len(hosts))
    return [Finding(", ".join(hosts), CHECK, Outcome.WARNING, found, f"{limit:g} GB/s or more", fix)]


def within(function: Callable[[], Result], timeout_s: float) -> Result:
    """The result of a function that may never return; its thread is then left behind.

    Raises:
        TimeoutError: it has not returned in time.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=_THREAD, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    return results[0]


def end_if_stuck(code: int) -> None:
    """End this process with ``code`` at once if an all-reduce has never returned; otherwise only return.

    A normal exit beside it takes the process group from under its thread, which aborts.
    """
    if any(thread.name == _THREAD and thread.is_alive() for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _measured(function: Callable[[], float], timeout_s: float) -> Measured:
    try:
        return Measured(host_name(), within(function, timeout_s))
    except Exception as error:
        if is_lost_peer(error):
            raise  # another worker died: the group is started again
        return Measured(host_name(), problem=first_line(error))


def _device() -> torch.device:
    """Where this rank will train."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def _broken_fix(device_type: str) -> str:
    if device_type == "cpu":
        return "open all ports between the nodes; name the interface that joins them in GLOO_SOCKET_IFNAME"
    return (
        "set NCCL_DEBUG=INFO in launch.env to see where; open all ports between the nodes; NCCL_SOCKET_IFNAME names "
        "the interface, NCCL_IB_DISABLE=1 leaves InfiniBand out, NCCL_P2P_DISABLE=1 the direct way between GPUs"
    )


def _slow_fix(device_type: str, num_hosts: int) -> str:
    if device_type == "cpu":
        return "is the machine busy, or the network between the nodes slow?"
    if num_hosts == 1:
        return "see `nvidia-smi topo -m` (rocm-smi --showtopo): GPUs without NVLink or peer access talk through the CPU"
    return "launch.network_tier: best; NCCL_DEBUG=INFO in launch.env shows whether it found the fast network"
