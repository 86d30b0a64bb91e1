"""The command line as a whole: errors, exit codes, help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ftl_launcher import cli


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = cli.run(list(argv))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(name in out for name in cli.COMMANDS)


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    assert "Usage: ftl" in out


def test_help_line_in_the_table_starts_like_a_sentence() -> None:
    assert all(line[0].isupper() and line.endswith(".") for _, _, line in cli.COMMANDS.values())


@pytest.mark.parametrize(
    ("word", "expected"), [("lanch", "'launch'"), ("stats", "'status'"), ("my.yml", "ftl launch my.yml")]
)
def test_unknown_command_gets_a_suggestion(word: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, word)
    assert code == 2
    assert expected in err


def test_underscores_in_command_names_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "merge_lora", "--help")[0] == 0


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.startswith("ftl ")


def test_user_error_is_one_line_and_a_hint_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "status", "nothing")
    assert code == 1
    assert out == ""
    assert err.splitlines() == ["error: no run named 'nothing'", "  hint: `ftl runs` lists all of them"]


@pytest.mark.parametrize("argv", [("--debug", "status", "nothing"), ("status", "nothing", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *argv)
    assert code == 1
    assert "Traceback" in err


def test_config_problems_exit_2_and_come_all_at_once(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config_file.write_text(config_file.read_text() + "lora_rr: 3\nmicro_batch_size: -1\n".replace("micro", "eval"))
    code, _, err = run(capsys, "config", "check", str(config_file))
    assert code == 2
    assert "lora_rr" in err
    assert "eval_batch_size" in err
    assert "error: error" not in err


def test_config_check_as_json(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "config", "check", str(config_file), "--json")
    assert code == 0
    assert json.loads(out)["valid"] is True
    code, out, _ = run(capsys, "config", "check", str(config_file), "--json", "--learning-rate", "fast")
    assert code == 2
    assert json.loads(out)["problems"][0]["key"] == "learning_rate"


def test_config_show_names_origins(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "config", "show", str(config_file), "--seed", "7")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["seed"].endswith("# --seed")
    assert f"{config_file}:" in lines["adapter"]
    code, out, _ = run(capsys, "config", "show", str(config_file), "--all", "--json")
    assert {"key": "weight_decay", "value": 0.0, "origin": "default"} in json.loads(out)


def test_config_schema_is_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "config", "schema")
    assert code == 0
    assert "learning_rate" in json.loads(out)["properties"]


def test_overrides_before_the_config_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "render", "--seed", "3", "c.yml")
    assert code == 2
    assert "before its overrides" in err


def test_missing_config_file(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "launch", "nowhere.yml")
    assert code == 2
    assert "nowhere.yml" in err
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_error() -> None:
    script = f"{sys.executable} -m ftl_launcher config schema | (exec 0<&-; sleep 3); exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert result.returncode == 141
    assert result.stderr == ""


def test_render_prints_what_launch_would_submit(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--name", "same", "--seed", "3")
    _, rendered, _ = run(capsys, "render", str(config_file), *flags)
    _, dry, _ = run(capsys, "launch", str(config_file), *flags, "--dryrun")
    assert rendered == dry
    assert json.loads(rendered)["submission_id"] == "ftl-same-1"


def test_fetch_copies_and_keeps_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "fetch", "deepspeed_configs")[0] == 0
    file = tmp_path / "deepspeed_configs/zero2.json"
    original = file.read_text()
    file.write_text("mine")
    _, _, err = run(capsys, "fetch", "deepspeed_configs")
    assert "differs from ours" in err
    assert file.read_text() == "mine"
    run(capsys, "fetch", "deepspeed_configs", "--force")
    assert file.read_text() == original


def test_doctor_reports_a_dead_s3_endpoint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    code, out, _ = run(capsys, "doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(out)}
    assert code == 1
    assert findings["S3 endpoint"]["status"] == "bad"
    assert findings["S3 endpoint"]["fix"]


def test_an_unexpected_error_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ftl_launcher.commands.doctor._machine", lambda: 1 / 0)
    code, _, err = run(capsys, "doctor")
    assert code == 1
    assert "ZeroDivisionError" in err
    assert "Traceback" not in err
