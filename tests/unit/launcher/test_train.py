"""`ftl train` and the runner's other verbs: who is started, with what, and how signals and exit codes travel."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ftl_launcher import cli
from ftl_launcher.child import run_child
from ftl_launcher.commands.train import _report_failure, runner_exit_code, train_command
from ftl_launcher.display import PlainDisplay
from ftl_launcher.progress import Progress

STANDIN = Path(__file__).resolve().parents[2] / "services/standin"


@pytest.mark.parametrize(
    ("launcher", "extra", "expected"),
    [
        ("single", [], "py -m ftl_runner train c.yml --seed 1"),
        ("ray", [], "py -m ftl_runner train c.yml --seed 1"),
        (
            "torchrun",
            ["--nproc-per-node=2"],
            "py -m torch.distributed.run --nproc-per-node=2 -m ftl_runner train c.yml --seed 1",
        ),
        (
            "deepspeed",
            ["--num_gpus", "2"],
            "py -m deepspeed.launcher.runner --num_gpus 2 --no_local_rank --module ftl_runner train c.yml --seed 1",
        ),
    ],
)
def test_commands(launcher: str, extra: list[str], expected: str) -> None:
    assert " ".join(train_command("py", launcher, extra, ["c.yml", "--seed", "1"])) == expected


@pytest.fixture(autouse=True)
def _standin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(STANDIN))


def test_train_shows_progress_and_summary(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", str(config_file)]) == 0
    out = capsys.readouterr().out
    assert "step 5/5" in out
    assert "config: succeeded" in out
    assert "because" in out


def test_train_takes_the_runners_exit_code(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STANDIN_FAIL_AT", "1")
    monkeypatch.setenv("STANDIN_EXIT_CODE", "10")
    assert cli.run(["train", str(config_file)]) == 10
    assert "error: the loss became NaN" in capsys.readouterr().err


def test_train_checks_first(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", str(config_file), "--learning-rate", "fast"]) == 2
    assert "Running" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "told", "expected"), [(1, 10, 10), (1, None, 1), (0, None, 0), (137, 10, 137), (1, 0, 1)]
)
def test_exit_code_of_workers_is_not_lost_in_torchrun(code: int, told: int | None, expected: int) -> None:
    assert runner_exit_code(code, Progress(exit_code=told)) == expected


def test_launcher_arguments_need_a_launcher(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", str(config_file), "--", "--nproc-per-node", "2"]) == 2
    assert "takes no arguments" in capsys.readouterr().err


def test_config_from_standard_input_reaches_the_runner(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(config_file.read_bytes())))
    assert cli.run(["train", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 5


def test_ctrl_c_reaches_the_runner_once_and_the_run_saves(config_file: Path) -> None:
    """SIGINT to the whole group, as a terminal sends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ftl_launcher", "train", str(config_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "STANDIN_STEPS": "400"},
        process_group=0,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step   3/"):
            os.killpg(process.pid, signal.SIGINT)
            break
    output = process.stdout.read()
    assert process.wait(30) == 130, output
    assert "checkpoint  step" in output
    assert "Traceback" not in output


def test_a_child_killed_by_a_signal_counts_as_shells_count() -> None:
    stream = io.StringIO()
    script = "import os, signal; print('hello', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    code, _ = run_child([sys.executable, "-c", script], dict(os.environ), PlainDisplay(stream), str.upper)
    assert (code, stream.getvalue()) == (137, "HELLO\n")


def test_other_verbs_become_the_runner(config_file: Path, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "$@"\nexit 7\n')
    fake.chmod(0o755)
    argv = [sys.executable, "-m", "ftl_launcher", "preprocess", str(config_file), "--seed", "3", "--debug"]
    result = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "FTL_RUNNER_PYTHON": str(fake)})
    assert result.returncode == 7
    words = result.stdout.split()
    assert words[:6] == ["-m", "ftl_runner", "preprocess", str(config_file), "--seed", "3"]
    assert words[6:] == ["--debug", "--debug-num-examples=1"]


def test_a_killed_runner_points_to_memory(capsys: pytest.CaptureFixture[str]) -> None:
    _report_failure(137, Progress())
    assert "ftl estimate" in capsys.readouterr().err
