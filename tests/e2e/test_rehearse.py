"""`ftl rehearse`: the job of a config for eight GPUs elsewhere, run here, and faults that only a run shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ftl_cli import Ftl, write_config

pytestmark = pytest.mark.slow

ELSEWHERE = ("--ray-address", "http://127.0.0.1:1", "--accelerators", "H100:8")


@pytest.fixture
def ftl(tmp_path: Path) -> Ftl:
    return Ftl(tmp_path / "home", tmp_path, {})


@pytest.fixture
def config(tiny_config: dict[str, Any]) -> dict[str, Any]:
    """As it would be for GPUs: bf16, a long sequence, many steps, a report to a service."""
    del tiny_config["ray_num_workers"]
    large = {"sequence_len": 4096, "sample_packing": True, "bf16": "auto", "max_steps": 5000, "wandb_project": "mine"}
    return tiny_config | large | {"checkpoint": "s3://nobodys/bucket", "launch": {"workdir": "."}}


def test_the_whole_job_and_its_resume(ftl: Ftl, config: dict[str, Any], tmp_path: Path) -> None:
    write_config(tmp_path / "config.yml", config)
    done = ftl.run("rehearse", "config.yml", *ELSEWHERE, "--keep")
    assert "rehearsed" in done.stderr
    assert "Ready: ftl launch config.yml --ray-address" in done.stderr
    for key in ("base_model", "sequence_len", "bf16", "checkpoint", "wandb_project", "workers"):
        assert key in done.stderr
    assert "3/3" in done.stdout
    assert "4/4" in done.stdout, "the second part goes on from the checkpoint of the first"
    assert "step 1/4" not in done.stdout
    runs = json.loads(ftl.run("runs", "--json").stdout)
    assert [run["state"] for run in runs] == ["succeeded", "succeeded"]
    assert {run["backend"] for run in runs} == {"local"}
    kept = next((tmp_path / "home/rehearsals").iterdir())
    assert len((kept / "data/datasets-0.jsonl").read_text().splitlines()) == 64


def test_a_module_that_the_model_does_not_have(ftl: Ftl, config: dict[str, Any], tmp_path: Path) -> None:
    wrong = {"lora_target_linear": False, "lora_target_modules": ["q_prj"]}
    write_config(tmp_path / "config.yml", config | wrong)
    done = ftl.run("rehearse", "config.yml", *ELSEWHERE, "--json", check=False)
    assert done.returncode == 2, done.stderr
    assert "q_prj" in done.stdout + done.stderr


def test_data_that_does_not_fit(ftl: Ftl, config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"messages": []}\n{"text": "x"}\n')
    write_config(tmp_path / "config.yml", config | {"datasets": [{"path": "rows.jsonl", "type": "chat_template"}]})
    done = ftl.run("rehearse", "config.yml", *ELSEWHERE, check=False)
    assert done.returncode == 3, done.stderr
    assert "rows.jsonl, line 1" in done.stderr, "the user's own file, not a copy"
    assert not json.loads(ftl.run("runs", "--json").stdout)


def test_what_the_backend_refuses_is_said_first(ftl: Ftl, config: dict[str, Any], tmp_path: Path) -> None:
    write_config(tmp_path / "config.yml", config)
    done = ftl.run("rehearse", "config.yml", *ELSEWHERE, "--spot", check=False)
    assert done.returncode == 2
    assert "launch.spot" in done.stderr
