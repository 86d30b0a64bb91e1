"""`ftl pull`: the final model or a committed checkpoint, whole, and only what is missing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from ftl_launcher import cli
from ftl_launcher.records import RunStore
from tests.unit.launcher.plans import plan_of, record_of


def write_checkpoint(folder: Path, step: int, content: bytes, *, commit: bool = True) -> None:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "adapter_model.safetensors").write_bytes(content)
    entry = {
        "path": "adapter_model.safetensors",
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    if commit:
        (checkpoint / "ftl_manifest.json").write_text(json.dumps({"step": step, "files": [entry]}))


@pytest.fixture
def store_folder(tmp_path: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint store of a run named ``one``; the current folder is another."""
    folder, here = tmp_path / "store", tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    write_checkpoint(folder, 5, b"five")
    write_checkpoint(folder, 10, b"ten")
    write_checkpoint(folder, 15, b"cut o", commit=False)
    store.create(record_of(plan_of(name="one"), checkpoint_uri=str(folder)))
    return folder


def finish(folder: Path) -> None:
    (folder / "final").mkdir()
    (folder / "final/adapter_config.json").write_text("{}")
    (folder / "final/adapter_model.safetensors").write_bytes(b"final")


def test_the_newest_committed_checkpoint_of_a_run_that_goes_on(store_folder: Path) -> None:
    assert cli.run(["pull", "one"]) == 0
    assert Path("one/adapter_model.safetensors").read_bytes() == b"ten"
    assert Path("one/ftl_manifest.json").exists()


def test_the_final_model(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(store_folder)
    assert cli.run(["pull", "one", "--dest", "model"]) == 0
    assert Path("model/adapter_model.safetensors").read_bytes() == b"final"
    assert "`ftl inference CONFIG --lora-model-dir model`" in capsys.readouterr().err


def test_the_result_of_a_run_on_this_machine(store_folder: Path) -> None:
    """Its checkpoints lie in the output folder, and the model beside them."""
    (store_folder / "metrics.json").write_text("{}")
    (store_folder / "adapter_model.safetensors").write_bytes(b"result")
    assert cli.run(["pull", "one"]) == 0
    assert sorted(path.name for path in Path("one").rglob("*")) == ["adapter_model.safetensors", "metrics.json"]


@pytest.mark.parametrize(("wanted", "content"), [("5", b"five"), ("latest", b"ten"), ("checkpoint-10", b"ten")])
def test_a_checkpoint_by_name(store_folder: Path, wanted: str, content: bytes) -> None:
    finish(store_folder)
    assert cli.run(["pull", "one", "--checkpoint", wanted]) == 0
    assert Path("one/adapter_model.safetensors").read_bytes() == content


def test_only_what_is_missing_is_fetched(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["pull", "one"])
    Path("one/adapter_model.safetensors").write_bytes(b"TEN")  # the size is right, the content is not
    capsys.readouterr()
    assert cli.run(["pull", "one", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["checkpoint-10/adapter_model.safetensors"]
    assert Path("one/adapter_model.safetensors").read_bytes() == b"ten"


def test_a_damaged_file_is_no_result(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store_folder / "checkpoint-10/adapter_model.safetensors").write_bytes(b"TEN")
    assert cli.run(["pull", "one"]) == 1
    assert "checkpoint-10/adapter_model.safetensors arrived damaged" in capsys.readouterr().err
    assert not list(Path("one").glob("adapter_model*"))


def test_what_there_is(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["pull", "one", "--list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["checkpoint-5", "checkpoint-10"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["one", "--checkpoint", "7"], 2, "the run has no checkpoint-7\n  hint: it has: 5, 10"),
        (["one", "--checkpoint", "15"], 2, "the run has no checkpoint-15"),
        (["oen"], 1, "did you mean one?"),
    ],
)
def test_errors_say_what_there_is(
    store_folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert cli.run(["pull", *arguments]) == code
    assert message in capsys.readouterr().err


def test_names_that_lead_elsewhere_are_refused(store_folder: Path) -> None:
    """A manifest is data from a bucket: it must not write outside of the folder."""
    evil = {"step": 20, "files": [{"path": "../../x", "size_bytes": 1, "sha256": "0"}]}
    (store_folder / "checkpoint-20").mkdir()
    (store_folder / "checkpoint-20/ftl_manifest.json").write_text(json.dumps(evil))
    assert cli.run(["pull", "one", "--checkpoint", "20"]) == 2


def test_no_folder(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store_folder.rename(store_folder.with_name("moved"))
    assert cli.run(["pull", "one"]) == 1
    assert f"no folder {store_folder}" in capsys.readouterr().err
