"""One rank of an all-reduce, run by torchrun: prints its events and what it raised. Its argument: what goes wrong."""

from __future__ import annotations

import sys
import time

import torch.distributed

from ftl_config.errors import FtlError
from ftl_config.load import load_text
from ftl_runner.distributed.ranks import join_ranks
from ftl_runner.preflight import all_reduce


def main(trouble: str) -> None:
    ranks = join_ranks(load_text("{}", [], partial=True).config)
    if trouble == "hang" and ranks.rank == 1:
        all_reduce.measure = lambda ranks, device: time.sleep(60)  # type: ignore[assignment]
    lines: list[str] = []
    try:
        all_reduce.check_all_reduce(ranks, lambda event: lines.append(event.to_json()), timeout_s=4)
    except FtlError as error:
        lines.append(f"ERROR {error.exit_code} {error.message}")
    sys.stdout.write("".join(f"rank {ranks.rank}: {line}\n" for line in lines))
    sys.stdout.flush()
    ranks.barrier()
    all_reduce.end_if_stuck(0)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
