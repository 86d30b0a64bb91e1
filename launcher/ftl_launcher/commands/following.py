"""Following a run from a command: display, summary, exit code."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ftl_config.redaction import Redactor
from ftl_launcher.backends.registry import load_backend
from ftl_launcher.console import print_error, print_json, say
from ftl_launcher.display import SilentDisplay, make_display
from ftl_launcher.follow import Detached, follow_run
from ftl_launcher.outcome import shell_exit_code
from ftl_launcher.plan import RunPlan
from ftl_launcher.records import RunRecord, RunStore
from ftl_launcher.summary import print_summary


def follow_to_end(
    store: RunStore,
    record: RunRecord,
    secrets: Mapping[str, str],
    *,
    cancel_on_interrupt: bool,
    as_json: bool = False,
) -> int:
    """Show a run until it is over; returns the exit code for the shell. See `follow_run` for Ctrl-C."""
    backend = load_backend(record.backend)
    display = SilentDisplay() if as_json else make_display(record.name)
    try:
        record, progress = follow_run(
            store,
            backend,
            record,
            display,
            redactor_for(record, secrets),
            cancel_on_interrupt=cancel_on_interrupt,
        )
    except Detached:
        display.close()
        say(f"detached; the run goes on. `ftl logs -f {record.name}` comes back, `ftl cancel {record.name}` stops it")
        return 0
    except BaseException:
        display.close()
        raise
    display.close()
    if as_json:
        print_json(record.to_json())
    else:
        print_summary(progress, record.name, str(record.state))
        report_end(record, progress.hint)
    return shell_exit_code(record)


def redactor_for(record: RunRecord, secrets: Mapping[str, str]) -> Redactor:
    """Cuts the run's secrets out of its log, as far as their values are known in this shell."""
    names = RunPlan.from_json(record.plan).secret_names
    return Redactor([*secrets.values(), *(os.environ.get(name, "") for name in names)])


def report_end(record: RunRecord, hint: str | None) -> None:
    """Why it failed, or how to go on."""
    if record.error:
        print_error(record.error, hint or f"`ftl logs {record.name}` has the whole output")
    if record.state.can_resume:
        say(f"{record.name}: {record.state}. `ftl resume {record.name}` goes on from its last checkpoint")
