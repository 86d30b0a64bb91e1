"""`ftl check` on a model and data of a hub (on loopback), and on rows that cannot be tokenized."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.ftl_cli import Ftl, write_config
from tests.services.hub import TOKEN, Hub, HubRepo, running_hub

pytestmark = pytest.mark.slow

GOOD = {"messages": [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "because"}]}
REMOTE = ("--ray-address", "http://127.0.0.1:1", "--launch.workdir", ".")


@pytest.fixture(scope="module")
def hub(tiny_model: Path) -> Iterator[Hub]:
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir() if path.suffix != ".safetensors"}
    with running_hub() as hub:
        hub.repos["org/tiny"] = HubRepo({"main": dict(files)})
        hub.repos["org/gated"] = HubRepo({"main": dict(files)}, gated=True)
        yield hub


@pytest.fixture
def ftl(tmp_path: Path) -> Ftl:
    return Ftl(tmp_path / "home", tmp_path, {})


@pytest.fixture
def config(tiny_config: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(GOOD)}\n" * 3)
    return tiny_config | {"datasets": [{"path": "rows.jsonl", "type": "chat_template"}]}


def check(ftl: Ftl, config: dict[str, Any], *flags: str, **env: str) -> dict[str, dict[str, Any]]:
    """The findings by name."""
    write_config(ftl.cwd / "config.yml", config)
    told = replace(ftl, environment=env).run("check", "config.yml", "--json", *flags, check=False).stdout
    return {finding["what"]: finding for finding in json.loads(told)}


def test_rows_are_tokenized_once_and_again_when_they_change(ftl: Ftl, config: dict[str, Any]) -> None:
    assert check(ftl, config)["model and rows"]["status"] == "ok"
    assert "tokenizing" not in ftl.run("check", "config.yml").stderr, "remembered"
    (ftl.cwd / "rows.jsonl").write_text(json.dumps(GOOD) + '\n{"message": []}\n')
    found = check(ftl, config)["model and rows"]
    assert found["status"] == "error"
    assert "rows.jsonl, line 2: no field 'messages'" in found["detail"]


def test_a_template_that_is_not_there_is_told(ftl: Ftl, config: dict[str, Any]) -> None:
    found = check(ftl, config | {"chat_template": "jinja", "chat_template_jinja": "{{ nope( }}"})["model and rows"]
    assert found["status"] == "error"
    assert "chat_template" in found["detail"]


def test_rows_that_would_all_be_dropped_are_warned_of(ftl: Ftl, config: dict[str, Any]) -> None:
    found = check(ftl, config | {"sequence_len": 4})["model and rows"]
    assert (found["status"], found["detail"]) == (
        "warning",
        "rows.jsonl: none of the first 3 rows is kept (3 too long)",
    )


def test_a_model_of_the_hub_is_looked_up(ftl: Ftl, config: dict[str, Any], hub: Hub) -> None:
    hf = {**hub.environment, "HF_HOME": str(ftl.cwd / "hf")}
    found = check(ftl, config | {"base_model": "org/tiny"}, *REMOTE, **hf)
    assert found["model and rows"]["status"] == "ok"
    missing = check(ftl, config | {"base_model": "org/tinny"}, *REMOTE, **hf)
    assert missing["model and rows"]["status"] == "error"
    assert "org/tinny" in missing["model and rows"]["detail"]


def test_a_gated_model_needs_a_token(ftl: Ftl, config: dict[str, Any], hub: Hub) -> None:
    hf = {**hub.environment, "HF_HOME": str(ftl.cwd / "hf")}
    found = check(ftl, config | {"base_model": "org/gated"}, *REMOTE, **hf)["model and rows"]
    assert (found["status"], found["detail"]) == ("error", "the hub does not give out org/gated (401)")
    assert "HF_TOKEN" in found["fix"]
    admitted = check(ftl, config | {"base_model": "org/gated"}, *REMOTE, **hf, HF_TOKEN=TOKEN)["model and rows"]
    assert admitted["status"] == "ok"


def test_a_hub_that_cannot_be_asked_is_no_error_for_a_run_elsewhere(ftl: Ftl, config: dict[str, Any]) -> None:
    found = check(ftl, config | {"base_model": "org/tiny"}, *REMOTE, HF_HUB_OFFLINE="1", HF_HOME=str(ftl.cwd / "hf"))
    assert found["model and rows"]["status"] == "warning"


def test_launch_refuses_before_anything_is_submitted(ftl: Ftl, config: dict[str, Any]) -> None:
    """The cluster's address is nobody's: had it been asked, the error would be another."""
    (ftl.cwd / "rows.jsonl").write_text('{"message": []}\n')
    shutil.copytree(config["base_model"], ftl.cwd / "model")
    (ftl.cwd / "config.yml").write_text(yaml.safe_dump(config | {"base_model": "./model"}))
    done = ftl.run("launch", "config.yml", *REMOTE, "--checkpoint", f"{ftl.cwd}/checkpoints", check=False)
    assert done.returncode == 3
    assert "rows.jsonl, line 1" in done.stderr
    assert not json.loads(ftl.run("runs", "--json").stdout)
