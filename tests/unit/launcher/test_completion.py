"""Completion as bash does it: its script is sourced, and the function that TAB calls is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ftl_launcher import cli
from ftl_launcher.records import RunStore
from tests.unit.launcher.plans import plan_of, record_of

TAB = """
eval "$(ftl completion bash)"
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_ftl_completion ftl 2> /dev/null  # compopt needs a shell that a person types in
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(*words: str, cwd: Path | None = None) -> list[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", TAB, "bash", "ftl", *words],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_commands_and_their_options() -> None:
    assert complete("la") == ["launch"]
    assert complete("logs", "--fo") == ["--follow"]


def test_every_config_key_is_a_flag() -> None:
    assert complete("launch", "c.yml", "--gradient-acc") == ["--gradient-accumulation-steps"]
    assert "--launch.max-hours" in complete("train", "c.yml", "--launch.")


def test_runs_by_name_and_only_once(store: RunStore) -> None:
    for name in ("alpha", "alps", "beta"):
        store.create(record_of(plan_of(name=name)))
    assert sorted(complete("status", "al")) == ["alpha", "alps"]
    assert complete("cancel", "alpha", "al") == ["alps"]


def test_no_records_are_made_by_asking(store: RunStore) -> None:
    assert complete("status", "") == []
    assert not store.path.exists()


def test_the_shell_is_the_one_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert cli.run(["completion"]) == 0
    assert "complete --no-files --command ftl" in capsys.readouterr().out
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert cli.run(["completion"]) == 2
    assert "bash|zsh|fish" in capsys.readouterr().err
