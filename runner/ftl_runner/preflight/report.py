"""Telling what was found: one event, and one error where training cannot begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ftl_config.errors import FtlError
from ftl_config.preflight import Finding, Outcome, event_fields
from ftl_config.protocol import Event, EventType, ExitCode

_SHOWN = 3
SKIP_HINT = "FTL_SKIP_PREFLIGHT=1 or launch.preflight: false trains without these checks"


def tell(findings: Sequence[Finding], duration_s: float, send: Callable[[Event], None]) -> None:
    """Send the event; end the run where a node is not fit.

    Raises:
        FtlError: something failed; exit code 2 if all of it is what the config asks for, else 1.
    """
    send(Event(EventType.PREFLIGHT, event_fields(findings, duration_s)))
    if error := failure(findings):
        raise error


def failure(findings: Sequence[Finding]) -> FtlError | None:
    """The error that failed findings amount to; None without any."""
    failed = [finding for finding in findings if finding.outcome is Outcome.FAILED]
    if not failed:
        return None
    shown = [f"{finding.node}: {finding.check}: {finding.found}" for finding in failed[:_SHOWN]]
    more = [f"and {len(failed) - _SHOWN} more"] if len(failed) > _SHOWN else []
    fixes = dict.fromkeys(finding.fix for finding in failed[:_SHOWN] if finding.fix)
    config_only = all(finding.exit_code == ExitCode.BAD_CONFIG for finding in failed)
    return FtlError(
        f"preflight: not fit to train: {'; '.join([*shown, *more])}",
        f"{'; '.join(fixes)} ({SKIP_HINT})",
        exit_code=ExitCode.BAD_CONFIG if config_only else ExitCode.FAILURE,
    )
