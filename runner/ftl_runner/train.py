"""The one training function: what every worker runs, whichever executor started it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ftl_config.protocol import Env, Event, EventType
from ftl_runner.checkpoints.attempts import begin_attempt
from ftl_runner.checkpoints.commit import RunIdentity, prune_local
from ftl_runner.checkpoints.manifest import committed
from ftl_runner.checkpoints.resume import (
    ResumePoint,
    check_resumable,
    named_checkpoint,
    newest_checkpoint,
)
from ftl_runner.checkpoints.store import CheckpointStore, open_store
from ftl_runner.clock import PhaseClock
from ftl_runner.context import Outcome, RunContext, TrainJob
from ftl_runner.distributed.ranks import Ranks, join_ranks
from ftl_runner.distributed.sharding import sharding_of
from ftl_runner.events import EventStream
from ftl_runner.failures import is_disk_full
from ftl_runner.logs import quiet_libraries
from ftl_runner.methods import load_method, method_name
from ftl_runner.preflight.all_reduce import check_all_reduce
from ftl_runner.preflight.node import is_wanted
from ftl_runner.stop import StopSignal
from ftl_runner.trainer.optimizers import check_optimizer


def train(job: TrainJob, send: Callable[[Event], None], stop: StopSignal) -> Outcome:
    """Run one attempt on this worker. Collective over all workers; only the main rank's events are sent.

    Raises:
        FtlError: bad configuration, data, model or store, each with its remedy.
    """
    clock = PhaseClock(_process_start())
    if os.environ.get(Env.EXECUTOR) == "ray":
        clock.record("ray", time.time() - job.created_at)
    quiet_libraries()
    if Path(job.workdir).is_dir():
        os.chdir(job.workdir)  # relative paths in the config mean what they meant where the run was started
    with clock.measure("imports"):
        import transformers

        transformers.utils.logging.disable_progress_bar()
    check_optimizer(job.loaded.config)
    ranks = join_ranks(job.loaded.config)
    events = EventStream(send, enabled=ranks.is_main)
    job.output_dir.mkdir(parents=True, exist_ok=True)
    if ranks.is_main:
        events.also_write(job.output_dir)
    if ranks.world_size > 1 and is_wanted(job):
        with clock.measure("preflight"):
            check_all_reduce(ranks, lambda event: events.emit(event.type, **event.fields))
    store = open_store(job.store_uri)
    attempt, resume_from = _begin(job, store, ranks, events)
    identity = RunIdentity(job.run_id, attempt, job.loaded.digest)
    context = RunContext(job, ranks, events, stop, store, identity, clock, resume_from)
    try:
        return load_method(method_name(job.loaded.config))(context)
    except Exception as error:
        if is_disk_full(error, job.output_dir) and ranks.is_node_leader:
            # The half-written checkpoint is worth nothing and its space is needed.
            prune_local(job.output_dir, frozenset(manifest.folder for manifest in committed(store)))
        raise


def _begin(job: TrainJob, store: CheckpointStore, ranks: Ranks, events: EventStream) -> tuple[int, ResumePoint | None]:
    """Count the attempt and choose the checkpoint on the main rank, for all ranks alike."""
    chosen: tuple[int, ResumePoint | None] = (0, None)
    if ranks.is_main:
        point = newest_checkpoint(store) if job.resume else None
        if point is None and job.start_from:
            point = named_checkpoint(job.start_from)
        started = job.started_at or job.created_at
        chosen = (begin_attempt(store, job.run_id, ranks.world_size, started=started), point)
    attempt, resume_from = ranks.gather(chosen)[0]
    if resume_from is not None:
        sharding = sharding_of(job.loaded.config, ranks.world_size)
        for warning in check_resumable(resume_from, job.loaded.digest, ranks.world_size, sharding=sharding):
            events.emit(EventType.WARNING, message=warning)
    return attempt, resume_from


def _process_start() -> float:
    """When this process began, in seconds since the epoch."""
    try:
        import psutil

        return float(psutil.Process().create_time())
    except ImportError:
        return time.time()
