"""The process boundary between launcher and runner: environment names, exit codes and the event stream.

The launcher starts the runner with an argv, a config file and the ``FTL_*`` variables below; the runner answers
with an exit code and with events, one JSON object a line. Both sides import this module and nothing else of
each other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

EVENT_PREFIX = "::ftl:: "
"""Marks an event line on stdout, so that events and free text can share one stream (all that some backends offer)."""

EVENT_VERSION = 1


class Env(StrEnum):
    """Environment variables that the runner reads. None of them ever holds a secret."""

    RUN_ID = "FTL_RUN_ID"
    """Name of the run; stable across attempts."""
    CHECKPOINT_URI = "FTL_CHECKPOINT_URI"
    """Where checkpoints of this run are committed: a directory, s3://... or another fsspec URL."""
    EXECUTOR = "FTL_EXECUTOR"
    """single | ray | torchrun | deepspeed."""
    EVENTS = "FTL_EVENTS"
    """``stdout``: print the event stream with EVENT_PREFIX. Unset: human lines."""
    RAY_ADDRESS = "FTL_RAY_ADDRESS"
    """Ray GCS address the driver joins; unset inside a Ray job (Ray tells it) and for an embedded Ray."""
    NUM_NODES = "FTL_NUM_NODES"
    NODE_RANK = "FTL_NODE_RANK"
    HEAD_ADDRESS = "FTL_HEAD_ADDRESS"
    NUM_WORKERS = "FTL_NUM_WORKERS"
    """Total number of training workers (world size)."""
    MAX_FAILURES = "FTL_MAX_FAILURES"
    """How often a failed worker group is started again from the last committed checkpoint."""
    MAX_RESTARTS_ON_ERRORS = "FTL_MAX_RESTARTS_ON_ERRORS"
    """How often a run that failed (exit code 1) asks for another start by RETRY; for backends that give it one."""
    ACCELERATORS = "FTL_ACCELERATORS"
    """What a node is to have, any one of them: ``H100:8,A100-80GB:8``. Unset: nothing was asked for."""
    SKIP_PREFLIGHT = "FTL_SKIP_PREFLIGHT"
    """``1``: nodes are not checked before training."""
    MAX_HOURS = "FTL_MAX_HOURS"
    """Hours that all attempts together may take; the run then saves a checkpoint and stops."""
    SECRET_NAMES = "FTL_SECRET_NAMES"  # noqa: S105 - names, never values
    """Variables whose values are secrets, with commas between: they are cut out of what the runner prints."""
    STARTED_AT = "FTL_STARTED_AT"
    """When the job began on its machines, in seconds since the epoch; the runner's own start where it is unset."""


class ExitCode(IntEnum):
    """Exit codes of ``ftl-runner`` and ``ftl``."""

    OK = 0
    FAILURE = 1
    BAD_CONFIG = 2
    BAD_DATA = 3
    OUT_OF_MEMORY = 10
    PREEMPTED = 20
    """Stopped by a signal after saving a checkpoint: start again to go on."""
    LIMIT_REACHED = 21
    """Stopped at its limit of hours or cost after saving a checkpoint: start again with a higher limit to go on."""
    RETRY = 22
    """Failed, with a restart on errors left: whoever started it starts it again."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C."""


class EventType(StrEnum):
    """The kinds of events, each with its fields."""

    PHASE = "phase"
    """phase (setup, ray, data, model, train, save, sample), message."""
    PREFLIGHT = "preflight"
    """num_nodes, passed (checks), findings (node, check, outcome, found, wanted, fix of the others), duration_s."""
    TRAIN_START = "train_start"
    """total_steps, start_step, num_epochs, world_size, trainable_params, total_params, num_rows, attempt, workers (a
    list of rank, pid, host)."""
    STEP = "step"
    """step, total_steps, epoch, loss, learning_rate, grad_norm, tokens_per_s, eta_s."""
    EVAL = "eval"
    """step, eval_loss."""
    CHECKPOINT = "checkpoint"
    """step, uri, size_bytes, duration_s."""
    RESUMED = "resumed"
    """step, uri, attempt."""
    SAMPLE = "sample"
    """prompt, base, tuned."""
    WARNING = "warning"
    """message."""
    ERROR = "error"
    """message, hint, exit_code."""
    SUMMARY = "summary"
    """metrics (what metrics.json holds), files (name to path or URI)."""
    END = "end"
    """status (succeeded, failed, cancelled, preempted, stopped), exit_code."""


@dataclass(frozen=True)
class Event:
    """One event of a run. ``time`` is seconds since the epoch."""

    type: EventType
    fields: Mapping[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def to_json(self) -> str:
        """One line of JSON; numbers that JSON has no word for (NaN, infinities) become strings."""
        payload = {"v": EVENT_VERSION, "time": round(self.time, 3), "type": str(self.type), **self.fields}
        return json.dumps(_finite(payload), separators=(",", ":"), ensure_ascii=False)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)


def parse_event(line: str) -> Event | None:
    """The event on a line of the runner's stdout, or None where the line is free text or of an unknown type.

    The prefix may stand behind a log prefix such as ``(pid=123)`` that a backend puts in front of each line.
    """
    start = line.find(EVENT_PREFIX)
    if start < 0:
        return None
    try:
        payload = json.loads(line[start + len(EVENT_PREFIX) :])
        event_type = EventType(payload.pop("type"))
    except (ValueError, KeyError, AttributeError):
        return None
    payload.pop("v", None)
    return Event(event_type, payload, float(payload.pop("time", 0.0)))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
