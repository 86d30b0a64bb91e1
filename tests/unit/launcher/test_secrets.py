"""Secrets: names in plans, values at submission, nothing in what is written or shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ftl_config.errors import FtlError
from ftl_config.redaction import Redactor
from ftl_launcher import cli
from ftl_launcher.backends.registry import load_backend
from ftl_launcher.host import look_at_host
from ftl_launcher.paths import state_dir
from ftl_launcher.plan import HostFacts
from ftl_launcher.records import RunStore
from ftl_launcher.render import fill_secrets
from ftl_launcher.secret_values import collect_secrets, names_in_env_file, read_env_file
from ftl_launcher.submission import make_request, submit_new
from tests.unit.launcher.plans import plan_of

ROOT = Path(__file__).resolve().parents[3]
VALUE = "hf_planted_9fX7wZ"
HOST = HostFacts(workdir="/w", environment_names=frozenset({"HF_TOKEN"}))


def test_values_come_from_the_environment_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("A=from-file\nB=also\n")
    monkeypatch.setenv("A", "from-env")
    assert collect_secrets(["A", "B"], file) == {"A": "from-env", "B": "also"}


def test_only_the_registrys_login_may_be_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYPILOT_DOCKER_PASSWORD", "")
    assert collect_secrets(["SKYPILOT_DOCKER_PASSWORD"]) == {"SKYPILOT_DOCKER_PASSWORD": ""}
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(FtlError, match="no value for secret HF_TOKEN"):
        collect_secrets(["HF_TOKEN"])


def test_missing_secrets_are_named_all_at_once() -> None:
    with pytest.raises(FtlError, match="no value for secrets NOPE_1, NOPE_2"):
        collect_secrets(["NOPE_1", "NOPE_2"])


def test_env_file_syntax(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# comment\n\nexport A=1\nB = 'two words'\nC=\"q#q\"\nD=x # note\nE=\n")
    assert read_env_file(file) == {"A": "1", "B": "two words", "C": "q#q", "D": "x", "E": ""}


def test_a_bad_line_is_named_and_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"A=1\n{VALUE}\n")
    with pytest.raises(FtlError, match="line 2") as caught:
        read_env_file(file)
    assert VALUE not in caught.value.message


def test_missing_env_file(tmp_path: Path) -> None:
    with pytest.raises(FtlError, match="No such file"):
        read_env_file(tmp_path / "none")


@pytest.mark.parametrize("flags", [("--launch.ray-address=http://head:8265",), ("--launch.cloud=aws",), ()])
def test_rendered_requests_hold_names_only(flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", VALUE)
    plan = plan_of(*flags, "--checkpoint=s3://b", host=HOST)
    _, request = make_request(plan)
    assert plan.secret_names == ("HF_TOKEN",)
    assert VALUE not in request.text + plan.to_json()


def test_values_are_put_in_where_the_names_stand() -> None:
    plan = plan_of("--launch.ray-address=http://head:8265", host=HOST)
    request = load_backend("ray").request(plan)
    filled = fill_secrets(request.payload, {"HF_TOKEN": VALUE})
    assert filled["runtime_env"]["env_vars"]["HF_TOKEN"] == VALUE
    assert VALUE not in str(request.payload)


class Accepting:
    """A backend that takes everything."""

    name = "local"

    def submit(self, request: object, secrets: dict[str, str]) -> None:
        assert secrets == {"HF_TOKEN": VALUE}


def test_nothing_that_is_written_holds_a_value(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", VALUE)
    _, request = make_request(plan_of(host=HOST))
    submit_new(store, Accepting(), request, {"HF_TOKEN": VALUE})  # type: ignore[arg-type]
    written = [path for path in state_dir().rglob("*") if path.is_file()]
    assert len(written) >= 4
    assert [path for path in written if VALUE.encode() in path.read_bytes()] == []


def test_redactor_cuts_out_values_but_not_words() -> None:
    redact = Redactor([VALUE, "true", "", VALUE + "-longer"])
    assert redact(f"token={VALUE}-longer, {VALUE}; it is true") == "token=***, ***; it is true"


def test_launch_with_a_missing_secret_submits_nothing(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["launch", str(config_file), "--secret", "NOT_SET_ANYWHERE"]) == 1
    assert "NOT_SET_ANYWHERE" in capsys.readouterr().err
    assert not state_dir().joinpath("runs").exists()


@pytest.mark.parametrize("pair", ["NOVALUE", "1A=x", "FTL_RUN_ID=x"])
def test_bad_env_flags(pair: str, config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["render", str(config_file), "--env", pair]) == 2
    assert "--env" in capsys.readouterr().err


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to launch from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path


def test_env_file_of_the_folder_is_read_without_asking(project: Path) -> None:
    (project / ".env").write_text(f"HF_TOKEN={VALUE}\nEMPTY=\nsome words\n")
    assert names_in_env_file() == {"HF_TOKEN"}
    with pytest.raises(FtlError, match="line 3"):
        collect_secrets(["HF_TOKEN"])
    (project / ".env").write_text(f"HF_TOKEN={VALUE}\n")
    assert collect_secrets(["HF_TOKEN"]) == {"HF_TOKEN": VALUE}
    other = project / "other.env"
    other.write_text("HF_TOKEN=another-value\n")
    assert collect_secrets(["HF_TOKEN"], other) == {"HF_TOKEN": "another-value"}


def test_usual_names_in_the_env_file_travel(project: Path) -> None:
    (project / ".env").write_text(f"HF_TOKEN={VALUE}\n")
    assert plan_of(host=look_at_host()).secret_names == ("HF_TOKEN",)


def test_keyring_is_asked_last(project: Path) -> None:
    """Through the command line, and keyring's own machinery with a backend that keeps values in a file."""
    env = {
        **os.environ,
        "PYTHON_KEYRING_BACKEND": "tests.unit.launcher.keyring_in_a_file.FileKeyring",
        "PYTHONPATH": str(ROOT),
        "KEYRING_FILE": str(project / "kept"),
    }

    def python(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *args], env=env, input=stdin, capture_output=True, text=True, cwd=project
        )

    kept = python("-m", "ftl_launcher", "secrets", "set", "HF_TOKEN", stdin=VALUE + "\n")
    assert kept.returncode == 0, kept.stderr
    assert VALUE not in kept.stdout + kept.stderr
    ask = "from ftl_launcher.secret_values import collect_secrets as c; print(c(['HF_TOKEN'])['HF_TOKEN'])"
    assert python("-c", ask).stdout.strip() == VALUE
    (project / ".env").write_text("HF_TOKEN=from-the-file\n")
    assert python("-c", ask).stdout.strip() == "from-the-file"
    (project / ".env").unlink()
    assert python("-m", "ftl_launcher", "secrets", "remove", "HF_TOKEN").returncode == 0
    gone = python("-c", ask)
    assert "ftl secrets set HF_TOKEN" not in gone.stdout
    assert "no value for secret HF_TOKEN" in gone.stderr
    again = python("-m", "ftl_launcher", "secrets", "remove", "HF_TOKEN")
    assert again.returncode == 1
    assert "Traceback" not in again.stderr
