"""``ftl check``: everything that `ftl launch` looks at before it submits, told at once; nothing is submitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ftl_config.errors import FtlError
from ftl_config.protocol import ExitCode
from ftl_launcher.backends.protocol import Backend
from ftl_launcher.backends.registry import load_backend
from ftl_launcher.commands.options import ConfigCommand, env_file_option, json_option
from ftl_launcher.commands.planning import planned
from ftl_launcher.console import make_console, print_json
from ftl_launcher.launch_checks import CHECKS
from ftl_launcher.plan import RunPlan
from ftl_launcher.secret_values import collect_secrets

if TYPE_CHECKING:
    from ftl_config import LoadedConfig


@dataclass(frozen=True)
class Finding:
    """What one check says."""

    what: str
    status: Literal["ok", "warning", "error"]
    detail: str = ""
    fix: str | None = None


@click.command(cls=ConfigCommand)
@planned
@env_file_option
@json_option
def check(loaded: LoadedConfig, plan: RunPlan, env_file: Path | None, as_json: bool) -> int:
    """Look at everything that a launch of CONFIG needs; exit code 2 if it would fail. Nothing is submitted."""
    findings = list(_findings(loaded, plan, env_file))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    return int(ExitCode.BAD_CONFIG) if any(finding.status == "error" for finding in findings) else 0


def _findings(loaded: LoadedConfig, plan: RunPlan, env_file: Path | None) -> Iterator[Finding]:
    yield Finding("config", "ok", f"digest {loaded.digest[:16]}")
    backend = load_backend(plan.backend)
    refusals = backend.refusals(plan)
    yield from (Finding(plan.backend, "error", reason) for reason in refusals)
    if not refusals:
        yield Finding(plan.backend, "ok", ", ".join(plan.placement.clouds))
    values: dict[str, str] = {}
    yield _look("secrets", lambda: values.update(collect_secrets(plan.secret_names, env_file)))
    for what, one in CHECKS.items():
        yield _look(what, partial(one, loaded, plan, values))
    if not refusals:
        yield _look("offer", lambda: _offer(backend, plan, values))


def _look(what: str, ask: Callable[[], str | None]) -> Finding:
    try:
        warning = ask()
    except FtlError as error:
        return Finding(what, "error", error.message, error.hint)
    return Finding(what, "warning", warning) if warning else Finding(what, "ok")


def _offer(backend: Backend, plan: RunPlan, values: Mapping[str, str]) -> str | None:
    offer = backend.offer(backend.request(plan), values)
    return f"costs money: {offer.where}, {offer.price}" if offer else None


def _print(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "warning": "yellow", "error": "red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        fix = f"\n  {finding.fix}" if finding.fix else ""
        table.add_row(finding.what, Text(finding.status, styles[finding.status]), Text(finding.detail + fix))
    make_console().print(table)
