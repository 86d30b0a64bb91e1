"""Executors: who starts the workers. ``single``, ``torchrun`` and ``deepspeed`` train in this process, ``ray``
drives a Ray Train worker group; all of them run :func:`ftl_runner.train.train`."""

from __future__ import annotations

import logging
import os
import signal
import sys

from ftl_config import LoadedConfig
from ftl_config.errors import FtlError
from ftl_config.protocol import Env, Event, EventType, ExitCode
from ftl_runner.checkpoints.attempts import note_failure
from ftl_runner.checkpoints.store import open_store
from ftl_runner.context import Outcome, TrainJob, job_from_environment
from ftl_runner.events import StreamSender
from ftl_runner.failures import explain
from ftl_runner.redaction import redact_output
from ftl_runner.stop import StopSignal

logger = logging.getLogger(__name__)

EXECUTORS = ("single", "ray", "torchrun", "deepspeed")


def run_training(loaded: LoadedConfig, *, debug: bool = False) -> int:
    """Execute a training run and report how it ended; returns the exit code."""
    code = _run(loaded, debug=debug)
    if os.environ.get(Env.EXECUTOR) == "ray":
        from ftl_runner.ray_train import end_driver

        end_driver(code)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from ftl_runner.preflight.all_reduce import end_if_stuck

        end_if_stuck(code)
    return code


def _run(loaded: LoadedConfig, *, debug: bool) -> int:
    redact_output()
    job = job_from_environment(loaded)
    behind_launcher = os.environ.get(Env.EVENTS) == "stdout"  # which has shown the config's warnings already
    send = StreamSender(machine_readable=behind_launcher)
    is_main = os.environ.get("RANK", "0") == "0"
    for warning in loaded.warnings if is_main and not behind_launcher else ():
        send(Event(EventType.WARNING, {"message": f"{warning.key}: {warning.message}".removeprefix(": ")}))
    stop = StopSignal()
    stop.listen()
    try:
        outcome = _execute(job, send, stop)
    except BaseException as error:
        if debug or not isinstance(error, Exception):
            logger.exception("run failed")
        if isinstance(error, KeyboardInterrupt):
            return int(ExitCode.INTERRUPTED)
        return _report_failure(error, job, send, is_main)
    code = _report_end(outcome, stop, send, is_main)
    _leave_ranks()
    return code


def _leave_ranks() -> None:
    """End the collectives while Python still runs: their threads, left to the interpreter's end, may abort the process.

    Only after a good end, at which every rank arrives here; after a failure the others may never.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _execute(job: TrainJob, send: StreamSender, stop: StopSignal) -> Outcome:
    if os.environ.get(Env.EXECUTOR, "single") == "ray":
        from ftl_runner.ray_train import train_on_ray

        return train_on_ray(job, send, stop)
    from ftl_runner.preflight.this_node import check_this_node
    from ftl_runner.train import train

    check_this_node(job, send)
    return train(job, send, stop)


def _report_failure(error: BaseException, job: TrainJob, send: StreamSender, is_main: bool) -> int:
    known = explain(error, job.output_dir, job)
    if not is_main:
        sys.stderr.write(f"rank {os.environ.get('RANK')}: {known.message}\n")
        return int(known.exit_code)
    code = _code_or_retry(int(known.exit_code), job)
    send(Event(EventType.ERROR, {"message": known.message, "hint": known.hint, "exit_code": code}))
    send(Event(EventType.END, {"status": "failed", "exit_code": code}))
    return code


def _code_or_retry(code: int, job: TrainJob) -> int:
    """RETRY while restarts on errors are left; a bad config, bad data or too little memory would only fail again."""
    allowed = int(os.environ.get(Env.MAX_RESTARTS_ON_ERRORS, "0"))
    if code != ExitCode.FAILURE or not allowed:
        return code
    try:
        failures = note_failure(open_store(job.store_uri))
    except FtlError:  # without the store nothing counts, and nothing would end it
        return code
    return int(ExitCode.RETRY) if 0 < failures <= allowed else code


def _report_end(outcome: Outcome, stop: StopSignal, send: StreamSender, is_main: bool) -> int:
    if outcome.status == "succeeded":
        code, status = ExitCode.OK, "succeeded"
    elif outcome.status == "at_limit":
        code, status = ExitCode.LIMIT_REACHED, "stopped"
    elif stop.signal_number == signal.SIGINT:
        code, status = ExitCode.INTERRUPTED, "cancelled"
    else:
        code, status = ExitCode.PREEMPTED, "preempted"
    if is_main:
        send(Event(EventType.END, {"status": status, "exit_code": int(code), "step": outcome.step}))
    return int(code)
