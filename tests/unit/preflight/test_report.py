"""How findings are told: event, lines, table, error, exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ftl_config.errors import FtlError
from ftl_config.load import load_text
from ftl_config.preflight import Finding, Outcome, event_findings, event_text, table
from ftl_config.protocol import Event, EventType, parse_event
from ftl_launcher import formats
from ftl_launcher.display import LiveDisplay
from ftl_launcher.progress import Progress
from ftl_runner.context import TrainJob
from ftl_runner.events import human_line
from ftl_runner.preflight.node import is_wanted
from ftl_runner.preflight.registry import CHECKS, run_checks
from ftl_runner.preflight.report import tell
from tests.unit.preflight.nodes import node

GOOD = [Finding("a", "disk", Outcome.PASSED, "80 GB free"), Finding("b", "disk", Outcome.PASSED, "70 GB free")]
SLOW = Finding("a", "clock", Outcome.WARNING, "9 s behind the head", "within 5 s", "set the clock")
BROKEN = Finding("b", "gpus", Outcome.FAILED, "none", "H100:8", "see why")
TOO_MANY = Finding("cluster", "workers", Outcome.FAILED, "2 CPU in all", "4 CPU", "lower it", 2)


def told(findings: list[Finding]) -> tuple[Event, FtlError | None]:
    events: list[Event] = []
    try:
        tell(findings, 0.42, events.append)
    except FtlError as error:
        return events[0], error
    return events[0], None


def test_what_passes_is_one_line() -> None:
    event, error = told(GOOD)
    assert error is None
    assert event_text(event.fields) == "[preflight] 2 nodes: disk passed (0.4 s)"
    assert human_line(event) == formats.event_line(event) == event_text(event.fields)


def test_everything_else_is_a_line_each_and_one_error() -> None:
    event, error = told([*GOOD, SLOW, BROKEN])
    assert error is not None
    assert error.exit_code == 1
    assert error.message == "preflight: not fit to train: b: gpus: none"
    assert "see why" in (error.hint or "")
    assert "launch.preflight: false" in (error.hint or "")
    assert event_text(event.fields).splitlines()[1:] == [
        "  warning  a  clock: 9 s behind the head; wanted: within 5 s; fix: set the clock",
        "  failed  b  gpus: none; wanted: H100:8; fix: see why",
    ]


def test_a_warning_alone_ends_nothing() -> None:
    assert told([*GOOD, SLOW])[1] is None


@pytest.mark.parametrize(("findings", "code"), [([TOO_MANY], 2), ([TOO_MANY, BROKEN], 1), ([BROKEN] * 9, 1)])
def test_exit_codes(findings: list[Finding], code: int) -> None:
    _, error = told(findings)
    assert error is not None
    assert error.exit_code == code
    assert ("and 6 more" in error.message) is (len(findings) == 9)


def test_findings_survive_the_event_stream() -> None:
    event, _ = told([*GOOD, SLOW, BROKEN, TOO_MANY])
    line = f"(pid=7) ::ftl:: {event.to_json()}"
    back = parse_event(line)
    assert back is not None
    assert back.type is EventType.PREFLIGHT
    assert event_findings(back.fields) == [SLOW, BROKEN, TOO_MANY]
    newer = {**SLOW.to_json(), "added_later": 1}
    assert Finding.from_json(newer) == SLOW


def test_the_table_holds_every_word() -> None:
    stream = StringIO()
    Console(file=stream, width=140).print(table([SLOW, BROKEN]))
    text = stream.getvalue()
    for word in ("node", "check", "found", "wanted", "fix", "9 s behind the head", "within 5 s", "H100:8", "see why"):
        assert word in text


def test_a_terminal_shows_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = StringIO()
    console = Console(file=stream, width=140, force_terminal=True, color_system=None)
    monkeypatch.setattr("ftl_launcher.console.make_console", lambda: console)
    display = LiveDisplay("run-1")
    display.event(told([*GOOD, BROKEN])[0], Progress())
    display.close()
    assert "[preflight] 2 nodes: disk passed" in stream.getvalue()
    assert "H100:8" in stream.getvalue()


def test_a_check_that_breaks_keeps_nobody_from_training() -> None:
    def broken(node: object) -> list[Finding]:
        raise OSError("no such tool")

    (finding,) = run_checks(node(), {"tool": broken})
    assert finding.outcome is Outcome.WARNING
    assert finding.found == "could not be looked at: OSError: no such tool"


@pytest.mark.parametrize(
    ("flags", "variable", "wanted"),
    [
        ([], None, True),
        ([], "0", True),
        ([], "1", False),
        ([], "true", False),
        (["--no-launch.preflight"], None, False),
        (["--launch.preflight=true"], None, True),
    ],
)
def test_skipping(flags: list[str], variable: str | None, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FTL_SKIP_PREFLIGHT", raising=False)
    if variable is not None:
        monkeypatch.setenv("FTL_SKIP_PREFLIGHT", variable)
    assert is_wanted(TrainJob(load_text("{}", flags, partial=True), "r", None, resume=False)) is wanted


CONFIG = """\
base_model: org/model
datasets:
  - path: org/chats
    type: chat_template
micro_batch_size: 1
gradient_accumulation_steps: 1
num_epochs: 1
learning_rate: 1e-4
optimizer: adamw_torch
output_dir: out
"""


def run(tmp_path: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "config.yml").write_text(CONFIG)
    command = [sys.executable, "-m", "ftl_runner", *argv]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PATH": "/usr/bin:/bin", **env})


def test_alone_on_a_node(tmp_path: Path) -> None:
    fit = run(tmp_path, "preflight", "config.yml")
    assert fit.returncode == 0, fit.stderr
    for check in set(CHECKS) - {"interconnect"}:
        assert f"passed  {check}: " in fit.stdout
    unfit = run(tmp_path, "preflight", "config.yml", FTL_ACCELERATORS="H100:64")
    assert unfit.returncode == 1
    assert "failed  gpus: " in unfit.stdout


def test_training_ends_before_the_model_is_looked_for(tmp_path: Path) -> None:
    """The model does not exist, and nothing is said of it."""
    result = run(tmp_path, "train", "config.yml", FTL_ACCELERATORS="H100:64", FTL_EVENTS="stdout")
    assert result.returncode == 1, result.stderr
    events = [json.loads(line.split("::ftl:: ")[1]) for line in result.stdout.splitlines() if "::ftl:: " in line]
    assert [event["type"] for event in events] == ["preflight", "error", "end"]
    assert events[0]["findings"][0]["check"] == "gpus"
    assert "org/model" not in result.stdout + result.stderr
