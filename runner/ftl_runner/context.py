"""What one attempt of a run works with: configuration, ranks, events, checkpoint store."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from ftl_config import Config, LoadedConfig
from ftl_config.protocol import Env, EventType
from ftl_runner.checkpoints.commit import RunIdentity
from ftl_runner.checkpoints.resume import ResumePoint
from ftl_runner.checkpoints.store import CheckpointStore
from ftl_runner.clock import PhaseClock
from ftl_runner.distributed.ranks import Ranks
from ftl_runner.events import EventStream
from ftl_runner.stop import StopSignal


@dataclass(frozen=True)
class TrainJob:
    """A training run as its starter describes it; picklable, holds no secret.

    ``checkpoint_uri`` None means the output directory. ``resume`` continues from the newest committed checkpoint
    where there is one, else from the one that ``start_from`` names (``<path or URI>/checkpoint-<step>``).
    """

    loaded: LoadedConfig
    run_id: str
    checkpoint_uri: str | None
    resume: bool
    start_from: str | None = None
    workdir: str = field(default_factory=os.getcwd)
    created_at: float = field(default_factory=time.time)
    """When the driver began, in seconds since the epoch: what passes until a worker runs is Ray's, or torchrun's."""
    started_at: float | None = None
    """When the job began on its machines, in seconds since the epoch, where its starter noted that."""
    max_hours: float | None = None
    """What all attempts together may take."""

    @property
    def output_dir(self) -> Path:
        return Path(self.loaded.config.checkpointing.output_dir).expanduser().absolute()

    @property
    def store_uri(self) -> str:
        return self.checkpoint_uri or str(self.output_dir)

    @property
    def prepared_uri(self) -> str | None:
        """Where the run keeps its prepared data beside its checkpoints, when those outlive this machine."""
        remote = "://" in self.store_uri and not self.store_uri.startswith("file://")
        return f"{self.store_uri.rstrip('/')}/prepared" if remote else None


@dataclass(frozen=True)
class RunContext:
    """Everything a method's ``run`` needs, the same for every executor."""

    job: TrainJob
    ranks: Ranks
    events: EventStream
    stop: StopSignal
    store: CheckpointStore
    identity: RunIdentity
    clock: PhaseClock
    resume_from: ResumePoint | None

    @property
    def config(self) -> Config:
        return self.job.loaded.config

    @property
    def output_dir(self) -> Path:
        return self.job.output_dir

    def warn(self, message: str) -> None:
        self.events.emit(EventType.WARNING, message=message)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: ``succeeded``; ``stopped`` by a signal or ``at_limit`` of hours, after saving ``step``."""

    status: str
    step: int
    total_steps: int


def job_from_environment(loaded: LoadedConfig) -> TrainJob:
    """The job of ``ftl-runner train``: identity and store from the launcher's ``FTL_*`` variables.

    Under a launcher a run always continues from its newest checkpoint (a recovered job is the same run). By hand
    it does so where ``resume_from_checkpoint`` or ``auto_resume_from_checkpoints`` asks for it, as Axolotl does.
    """
    keys = loaded.config.checkpointing
    run_id = os.environ.get(Env.RUN_ID)
    uri = os.environ.get(Env.CHECKPOINT_URI) or (str(keys.checkpoint) if keys.checkpoint else None)
    resume = run_id is not None or bool(keys.auto_resume_from_checkpoints) or keys.resume_from_checkpoint is True
    start_from = keys.resume_from_checkpoint if isinstance(keys.resume_from_checkpoint, str) else None
    return TrainJob(
        loaded,
        run_id or Path(keys.output_dir).name,
        uri,
        resume,
        start_from,
        started_at=_number(os.environ.get(Env.STARTED_AT)),
        max_hours=_number(os.environ.get(Env.MAX_HOURS)) or loaded.config.launch.max_hours,
    )


def _number(text: str | None) -> float | None:
    return float(text) if text else None
