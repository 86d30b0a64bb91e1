"""``ftl rehearse``: the whole job on this machine, small, before a machine is rented for it."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftl_launcher.commands.following import follow_to_end
from ftl_launcher.commands.options import ConfigCommand, env_file_option, json_option
from ftl_launcher.commands.planning import planned
from ftl_launcher.console import make_console, print_json, say, waiting
from ftl_launcher.host import look_at_host
from ftl_launcher.names import MAX_LENGTH, default_run_name
from ftl_launcher.paths import records_file
from ftl_launcher.plan import RunPlan, make_plan
from ftl_launcher.records import RunStore
from ftl_launcher.rehearsal import Replaced, SmallJob, make_small_job
from ftl_launcher.secret_values import collect_secrets
from ftl_launcher.submission import make_request, submit_new
from ftl_launcher.versions import ftl_version

if TYPE_CHECKING:
    from ftl_config import LoadedConfig


@click.command(cls=ConfigCommand)
@planned
@env_file_option
@click.option("--steps", type=click.IntRange(min=2), default=3, show_default=True, help="Training steps.")
@click.option("--model", metavar="NAME", help="A small model to take, in place of making one.")
@click.option("--no-resume", is_flag=True, help="Leave out the second part, which goes on from the checkpoint.")
@click.option("--keep", is_flag=True, help="Keep the small model, the rows and what was trained.")
@json_option
def rehearse(
    loaded: LoadedConfig,
    plan: RunPlan,
    env_file: Path | None,
    steps: int,
    model: str | None,
    no_resume: bool,
    keep: bool,
    as_json: bool,
) -> int:
    """Run CONFIG's whole job here for a few steps, with a small random model of the same architecture and few rows.

    Then once more from its checkpoint, a step further.
    """
    make_request(plan)  # what the real backend would refuse
    secrets = collect_secrets(plan.secret_names, env_file)
    began = time.monotonic()
    with waiting("making a small model of the same architecture, and taking the first rows ..."):
        small = make_small_job(loaded, plan, secrets, steps=steps, model=model)
    if not as_json:
        _print_replaced(small.replaced)
    parts = [("train", small.config), *([] if no_resume else [("resume", small.longer)])]
    seconds: dict[str, float] = {"made": time.monotonic() - began}
    code = 0
    for part, config in parts:
        started = time.monotonic()
        code = _run_here(config, f"{plan.name}-{part}", secrets)
        seconds[part] = time.monotonic() - started
        if code:
            break
    _report(code, small, seconds, as_json=as_json)
    if keep:
        say(f"kept in {small.folder}")
    else:
        shutil.rmtree(small.folder, ignore_errors=True)
    return code


def _run_here(config: LoadedConfig, name: str, secrets: dict[str, str]) -> int:
    """Launch it on this machine as `ftl launch` does, and follow it; its exit code."""
    short = default_run_name(name[: MAX_LENGTH - 5])
    plan = make_plan(config, short, look_at_host(), ftl_version=ftl_version())
    backend, request = make_request(replace(plan, secret_names=tuple(secrets)))
    store = RunStore(records_file())
    with waiting(f"{name}: starting Ray on this machine ..."):
        record = submit_new(store, backend, request, secrets)
    return follow_to_end(store, record, secrets, cancel_on_interrupt=True)


def _print_replaced(replaced: Sequence[Replaced]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("in the rehearsal", "was", "is", "because"):
        table.add_column(title, overflow="fold")
    for each in replaced:
        table.add_row(each.key, each.before, each.after or "-", each.why)
    make_console(stderr=True).print(table)


def _report(code: int, small: SmallJob, seconds: dict[str, float], *, as_json: bool) -> None:
    if as_json:
        rounded = {part: round(value, 1) for part, value in seconds.items()}
        print_json({"exit_code": code, "seconds": rounded, "replaced": [asdict(each) for each in small.replaced]})
        return
    told = ", ".join(f"{part} {value:.0f} s" for part, value in seconds.items())
    if code:
        say(f"rehearsal failed ({told}): the real run would, too, unless it is for what was replaced above")
        return
    real = shlex.join(["ftl", "launch", *(arg for arg in sys.argv[2:])])
    say(f"rehearsed ({told}). Ready: {real}")
