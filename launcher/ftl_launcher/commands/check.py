"""``ftl check``: everything that `ftl launch` looks at before it submits, told at once; nothing is submitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from ftl_config.errors import FtlError
from ftl_config.protocol import ExitCode
from ftl_launcher import configs
from ftl_launcher.backends.protocol import Request
from ftl_launcher.backends.registry import load_backend
from ftl_launcher.commands.launch import plan_for
from ftl_launcher.commands.options import (
    ConfigCommand,
    config_arguments,
    flag_overrides,
    json_option,
    launch_options,
    parse_env,
)
from ftl_launcher.console import make_console, print_json
from ftl_launcher.launch_checks import CHECKS
from ftl_launcher.plan import RunPlan
from ftl_launcher.secret_values import collect_secrets


@dataclass(frozen=True)
class Finding:
    """What one check says."""

    what: str
    status: Literal["ok", "warning", "error"]
    detail: str = ""
    fix: str | None = None


@click.command(cls=ConfigCommand)
@config_arguments
@launch_options
@click.option("--env-file", type=click.Path(path_type=Path), metavar="FILE", help="NAME=value lines for secrets.")
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    source: str,
    overrides: tuple[str, ...],
    allow_unknown: bool,
    name: str | None,
    env: tuple[str, ...],
    secrets: tuple[str, ...],
    env_file: Path | None,
    as_json: bool,
) -> int:
    """Look at everything that a launch of CONFIG needs; exit code 2 if it would fail. Nothing is submitted."""
    loaded = configs.load(source, [*overrides, *flag_overrides(ctx)], allow_unknown=allow_unknown)
    plan = plan_for(loaded, source, name, env=parse_env(env), secret_names=secrets)
    values: dict[str, str] = {}
    findings = [Finding("config", "ok", f"digest {loaded.digest[:16]}"), *_backend(plan)]
    findings.append(_look("secrets", lambda: values.update(collect_secrets(plan.secret_names, env_file))))
    findings += [_look(what, lambda one=one: one(loaded, plan, values)) for what, one in CHECKS.items()]  # type: ignore[misc]
    if findings[1].status == "ok":
        findings.append(_look("offer", lambda: _offer(plan, values)))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    return int(ExitCode.BAD_CONFIG) if any(finding.status == "error" for finding in findings) else 0


def _look(what: str, ask: Callable[[], str | None]) -> Finding:
    try:
        warning = ask()
    except FtlError as error:
        return Finding(what, "error", error.message, error.hint)
    return Finding(what, "warning", warning) if warning else Finding(what, "ok")


def _backend(plan: RunPlan) -> Iterator[Finding]:
    """Whether the backend can do what the plan asks; each reason why not is a finding."""
    refusals = load_backend(plan.backend).refusals(plan)
    yield from (Finding(plan.backend, "error", reason) for reason in refusals)
    if not refusals:
        yield Finding(plan.backend, "ok", ", ".join(plan.placement.clouds))


def _offer(plan: RunPlan, values: dict[str, str]) -> str | None:
    backend = load_backend(plan.backend)
    request: Request = backend.request(plan)
    offer = backend.offer(request, values)
    if offer is None:
        return None
    price = "price not known" if offer.hourly_cost is None else f"${offer.hourly_cost:.2f} an hour"
    return f"costs money: {offer.where}, {price}"


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
