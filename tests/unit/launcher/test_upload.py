"""What of a workdir travels: git's own answer is the measure for .gitignore."""

from __future__ import annotations

import json
import os
import random
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ftl_config.errors import FtlError
from ftl_launcher import cli
from ftl_launcher.backends import dstack
from ftl_launcher.backends.registry import load_backend
from ftl_launcher.backends.skypilot import _payload
from ftl_launcher.plan import HostFacts, RunPlan
from ftl_launcher.upload import check_upload, look_at_upload, read_ignore_file
from tests.unit.launcher.plans import load, plan_of

PATTERNS = ("*.log", "!x.log", "/build", "data/*.csv", "!data/keep.csv", "**/cache/", "deep/**/x.txt", "# no", "a?c")
NAMES = ("x.log", "build", "keep.csv", "other.csv", "x.txt", "cache", "we#ird", "abc", "plain")
FOLDERS = ("", "data", "deep", "deep/er", "cache", "build", "src/data")


def write(root: Path, *names: str, size: int = 1) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * size)


@pytest.mark.parametrize("seed", range(8))
def test_ignored_as_git_does(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    for folder in FOLDERS:
        for name in NAMES:
            if not (tmp_path / folder / name).exists():
                write(tmp_path, str(Path(folder, name + ("/in.txt" if name in ("build", "cache") else ""))))
        if draw.random() < 0.5 and (tmp_path / folder).is_dir():
            (tmp_path / folder / ".gitignore").write_text("\n".join(draw.sample(PATTERNS, 3)) + "\n")
    git = {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, env=git, check=True)
    asked = ["git", "ls-files", "--others", "--exclude-standard", "-z"]
    told = subprocess.run(asked, cwd=tmp_path, env=git, check=True, capture_output=True, text=True).stdout
    assert {str(path) for path in look_at_upload(tmp_path, ()).sizes} == set(told.strip("\0").split("\0"))


def test_dstack_gets_it_too(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "b.bin")
    (tmp_path / ".ftlignore").write_text("*.bin\n")
    pytest.importorskip("dstack.api")
    flags = ("--launch.backend=dstack", "--launch.image=me/ftl:1", "--checkpoint=s3://bucket/x")
    request = load_backend("dstack").request(plan_in(tmp_path, *flags))
    [sent] = dstack._task(request, {}).files
    assert {path.name for path in Path(sent.local_path).iterdir()} == {"a.py", ".ftlignore"}


def test_ray_is_given_the_patterns(tmp_path: Path) -> None:
    (tmp_path / ".ftlignore").write_text("# large\n\n*.bin  \n!keep.bin\n")
    plan = plan_in(tmp_path, "--launch.ray-address=http://head:8265")
    job = json.loads(load_backend("ray").request(plan).text)
    assert job["runtime_env"]["excludes"] == ["*.bin", "!keep.bin"]
    assert job["runtime_env"]["working_dir"] == str(tmp_path)


def test_skypilot_gets_a_folder_of_what_is_left(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "big/b.bin", "c.log")
    (tmp_path / ".ftlignore").write_text("big\n")
    (tmp_path / ".gitignore").write_text("*.log\n")
    flags = ("--launch.cloud=slurm", "--checkpoint=s3://bucket/x")
    request = load_backend("skypilot").request(plan_in(tmp_path, *flags))
    assert yaml.safe_load(request.text)["workdir"] == str(tmp_path)
    sent = Path(_payload(request)["workdir"])
    assert {str(path.relative_to(sent)) for path in sent.rglob("*")} == {"a.py", ".ftlignore", ".gitignore"}
    (tmp_path / ".ftlignore").unlink()
    assert _payload(load_backend("skypilot").request(plan_in(tmp_path, *flags)))["workdir"] == str(tmp_path)


def test_too_much_for_ray_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    write(tmp_path, "small.py")
    for name in ("data/rows.jsonl", "model.bin"):  # holes: they take no room on the disk
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with (tmp_path / name).open("wb") as file:
            file.truncate(400 * 2**20)
    plan = plan_in(tmp_path, "--launch.ray-address=http://head:8265")
    with pytest.raises(FtlError, match=r"3 files, 800.0 MiB .*data/ 400.0 MiB, model.bin 400.0 MiB") as caught:
        check_upload(load(), plan, {})
    assert ".ftlignore" in (caught.value.hint or "")
    assert caught.value.exit_code == 2
    (tmp_path / ".ftlignore").write_text("*.bin\n")
    assert check_upload(load(), plan_in(tmp_path, "--launch.ray-address=http://head:8265"), {}) is None


def test_much_for_a_cloud_is_warned_of(tmp_path: Path) -> None:
    with (tmp_path / "model.bin").open("wb") as file:
        file.truncate(2 * 2**30)
    plan = plan_in(tmp_path, "--launch.cloud=slurm", "--checkpoint=s3://bucket/x")
    assert "model.bin 2,048.0 MiB" in (check_upload(load(), plan, {}) or "")


def test_a_missing_workdir(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--ray-address", "http://127.0.0.1:9", "--launch.workdir", "./nope"]
    assert cli.run(["launch", str(config_file), *flags]) == 2
    assert "nope" in capsys.readouterr().err


def plan_in(folder: Path, *flags: str) -> RunPlan:
    plan = plan_of(*flags, "--launch.workdir=.", host=HostFacts(workdir=str(folder)))
    return replace(plan, upload_excludes=read_ignore_file(plan.workdir))
