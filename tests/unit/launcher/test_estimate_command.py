"""`ftl estimate`, and what `ftl launch` makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftl_launcher import cli
from tests.unit.launcher.fake_backend import FakeBackend, installed
from tests.unit.launcher.test_imports import HEAVY, loaded_by
from tests.unit.memory.shapes import LLAMA_3_8B as LLAMA


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    return installed(monkeypatch)


@pytest.fixture
def llama(config_file: Path) -> Path:
    """The config of these tests on an 8B model that lies beside it."""
    folder = config_file.parent / "llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    (folder / "tokenizer.json").write_text("{}")
    config_file.write_text(config_file.read_text().replace("HuggingFaceTB/SmolLM2-135M-Instruct", "./llama"))
    return config_file


def test_breakdown_verdict_and_advice(llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["estimate", str(llama), "--gpu", "A100-80GB:8"]) == 0
    out = capsys.readouterr().out
    assert "It fits." in out
    for word in ("weights", "activations", "logits and loss", "peak", "8 x A100-80GB (DDP)"):
        assert word in out
    assert cli.run(["estimate", str(llama), "--gpu", "T4"]) == 10
    out = capsys.readouterr().out
    assert "It does not fit." in out
    assert out.count(", then ") == 3


def test_json_holds_the_same(llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["estimate", str(llama), "--gpu", "t4:2", "--json", "--micro-batch-size", "4"]) == 10
    found = json.loads(capsys.readouterr().out)
    assert sum(found["parts_bytes"].values()) == pytest.approx(found["peak_bytes"], abs=20)
    assert (found["device"], found["num_devices"], found["fits"]) == ("T4", 2, False)
    first = found["advice"][0]
    assert first["peak_bytes"] + first["saved_bytes"] == pytest.approx(found["peak_bytes"], abs=2)


def test_the_gpu_may_come_from_the_launch_section(llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["estimate", str(llama), "--launch.accelerators", "H100:4", "--launch.nodes", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["device"], found["num_devices"]) == ("H100", 8)
    assert cli.run(["estimate", str(llama), "--gpu", "cpu", "--json"]) in (0, 10)
    assert json.loads(capsys.readouterr().out)["device"] == "CPU"


def test_an_unknown_gpu(llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["estimate", str(llama), "--gpu", "H1000"]) == 2
    assert "did you mean `H100`?" in capsys.readouterr().err


def test_nothing_heavy_is_imported(llama: Path) -> None:
    code, loaded, _ = loaded_by("estimate", str(llama), "--gpu", "H100", watched=(*HEAVY, "jinja2", "sqlite3"))
    assert (code, loaded) == (0, [])


LAUNCH = ("--name", "one", "-d")


def test_launch_refuses_what_cannot_fit(llama: Path, backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["launch", str(llama), *LAUNCH, "--accelerators", "T4:1"]
    assert cli.run(arguments) == 10
    err = capsys.readouterr().err
    assert "T4:1 has 15.0 GiB" in err
    assert err.count(", then ") == 3
    assert "--skip-memory-check" in err
    assert backend.submitted == []
    assert cli.run([*arguments, "--skip-memory-check"]) == 0
    assert len(backend.submitted) == 1


def test_launch_warns_where_it_is_near(llama: Path, backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    near = ("--accelerators", "L4:1", "--sequence-len", "700", "--micro-batch-size", "1")
    assert cli.run(["launch", str(llama), *LAUNCH, *near]) == 0
    assert "warning: training needs about" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [(("--accelerators", "H100:1"), ""), (("--accelerators", "Nova9:1"), ""), ((), "")],
    ids=["fits", "unknown GPU", "no GPU"],
)
def test_launch_is_silent_otherwise(
    flags: tuple[str, ...], said: str, llama: Path, backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["launch", str(llama), *LAUNCH, *flags]) == 0
    assert "memory" not in capsys.readouterr().err


def test_launch_goes_on_where_the_model_is_not_at_hand(
    config_file: Path, backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["launch", str(config_file), *LAUNCH, "--accelerators", "T4:1"]) == 0
    assert "note: memory was not estimated" in capsys.readouterr().err
