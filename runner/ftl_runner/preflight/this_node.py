"""The checks on this machine alone: runs without Ray, and `ftl-runner preflight`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ftl_config.preflight import Finding, event_fields, summary_line, table
from ftl_runner.preflight.node import Expectations, expectations_of, host_name, is_wanted, look_at
from ftl_runner.preflight.registry import run_checks
from ftl_runner.preflight.report import failure, tell

if TYPE_CHECKING:
    from ftl_config.protocol import Event
    from ftl_runner.context import TrainJob


def check_this_node(job: TrainJob, send: Callable[[Event], None]) -> None:
    """Check the machine that this process trains on; by its first process only.

    Raises:
        FtlError: it is not fit.
    """
    if not is_wanted(job) or os.environ.get("LOCAL_RANK", "0") != "0":
        return
    started = time.monotonic()
    findings = run_checks(look_at(host_name(), _expectations(job)))
    duration_s = time.monotonic() - started
    # The nodes of torchrun do not know each other yet: each tells its own.
    tell(findings, duration_s, send)


def print_this_node(job: TrainJob) -> int:
    """Check this machine and print everything that was found; returns the exit code."""
    started = time.monotonic()
    findings = run_checks(look_at(host_name(), _expectations(job)))
    _print(findings, time.monotonic() - started)
    error = failure(findings)
    return error.exit_code if error else 0


def _expectations(job: TrainJob) -> Expectations:
    num_workers = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", num_workers))
    return expectations_of(job, num_nodes=-(-num_workers // local), num_workers=num_workers)


def _print(findings: list[Finding], duration_s: float) -> None:
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        from rich.console import Console

        Console(highlight=False).print(table(findings))
    else:
        for finding in findings:
            rest = [f"wanted: {finding.wanted}"] * bool(finding.wanted) + [f"fix: {finding.fix}"] * bool(finding.fix)
            sys.stdout.write("; ".join([f"{finding.outcome}  {finding.check}: {finding.found}", *rest]) + "\n")
    sys.stdout.write(summary_line(event_fields(findings, duration_s)) + "\n")
