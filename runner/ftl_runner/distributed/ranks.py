"""Who this process is among the workers, and the few collectives that control flow needs."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ftl_config import Config

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:
    """Rank facts plus CPU collectives on a gloo group of their own, so that they never wait for the device.

    With a world size of 1 every collective is the identity and torch.distributed is not needed.
    """

    rank: int
    local_rank: int
    world_size: int
    group: Any = None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def is_node_leader(self) -> bool:
        return self.local_rank == 0

    def barrier(self) -> None:
        if self.world_size > 1:
            self.gather(None)

    def gather(self, item: Item) -> list[Item]:
        """Every rank's item, in rank order, on every rank."""
        if self.world_size == 1:
            return [item]
        import torch.distributed as dist

        items: list[Any] = [None] * self.world_size
        dist.all_gather_object(items, item, group=self.group)
        return items

    def any(self, flag: bool) -> bool:
        """True on every rank where the flag is set on at least one."""
        if self.world_size == 1:
            return flag
        import torch
        import torch.distributed as dist

        tensor = torch.tensor([int(flag)], dtype=torch.int32)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.group)
        return bool(tensor.item())


def world_size() -> int:
    """Number of training processes, by the variable that Ray Train, torchrun and deepspeed all set."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def collective_timeout_s(config: Config) -> int:
    """Seconds that a collective may take: ``ddp_timeout``, else half an hour."""
    return config.distributed.ddp_timeout or 1800


def collective_backend(config: Config, *, use_gpu: bool) -> str:
    """What carries collectives. FSDP has some over CPU tensors on GPUs too: of what it offloads."""
    if not use_gpu:
        return "gloo"
    return "cpu:gloo,cuda:nccl" if config.distributed.fsdp_key else "nccl"


def join_ranks(config: Config) -> Ranks:
    """Rank facts from the launcher's environment (Ray Train, torchrun and deepspeed all set the same variables)."""
    rank = int(os.environ.get("RANK", "0"))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if world_size == 1:
        return Ranks(rank, local_rank, world_size)
    import torch
    import torch.distributed as dist

    timeout = timedelta(seconds=collective_timeout_s(config))
    if not dist.is_initialized():
        dist.init_process_group(collective_backend(config, use_gpu=torch.cuda.is_available()), timeout=timeout)
    return Ranks(rank, local_rank, world_size, dist.new_group(backend="gloo", timeout=timeout))


def whereabouts(rank: int) -> dict[str, Any]:
    """Rank, process and address of this worker: what tells its lines in a shared log from those of the others."""
    if (ray := sys.modules.get("ray")) is not None and ray.is_initialized():
        return {"rank": rank, "pid": os.getpid(), "host": ray.util.get_node_ip_address()}
    return {"rank": rank, "pid": os.getpid(), "host": socket.gethostname()}
