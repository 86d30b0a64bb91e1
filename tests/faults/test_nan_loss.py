"""A loss that is not a number: the run stops before it spreads, and the batch that gave it can be looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ftl_cli import Ftl, read_events, write_config

POISON = 777
"""A token whose embedding is not a number."""
BAD_ROW = 9


@pytest.fixture(scope="module")
def poisoned_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama with a head of its own: NaN comes out only where the token goes in."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    target = tmp_path_factory.mktemp("models") / "poisoned"
    settings = AutoConfig.from_pretrained(tiny_model)
    settings.tie_word_embeddings = False
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(settings)
    with torch.no_grad():
        model.get_input_embeddings().weight[POISON] = float("nan")
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(target)
    return target


@pytest.fixture
def ftl(tmp_path: Path) -> Ftl:
    return Ftl(tmp_path / "home", tmp_path, {})


@pytest.fixture
def config(poisoned_model: Path, tmp_path: Path) -> dict[str, Any]:
    """Rows in order, one a micro batch, two micro batches a step on each of two ranks: row 9 is in step 3."""
    data = tmp_path / "rows.jsonl"
    with data.open("w") as file:
        for number in range(16):
            ids = [100 + number * 10 + place for place in range(8)]
            if number == BAD_ROW:
                ids[3] = POISON
            file.write(json.dumps({"input_ids": ids, "labels": ids}) + "\n")
    return {
        "base_model": str(poisoned_model),
        "datasets": [{"path": str(data), "type": None}],
        "dataset_prepared_path": str(tmp_path / "prepared"),
        "output_dir": str(tmp_path / "out"),
        "curriculum_sampling": True,
        "shuffle_merged_datasets": False,
        "sequence_len": 32,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "num_epochs": 1,
        "save_steps": 1,
        "logging_steps": 1,
        "optimizer": "adamw_torch",
    }


@pytest.mark.slow
def test_all_ranks_stop_at_the_step_with_the_batch_saved(ftl: Ftl, config: dict[str, Any], tmp_path: Path) -> None:
    path = write_config(tmp_path / "config.yml", config)
    result = ftl.run("train", str(path), "--launcher", "torchrun", "--", "--nproc_per_node=2", check=False)
    out = tmp_path / "out"
    assert result.returncode == 1, result.stdout + result.stderr
    assert "the loss of step 3 is nan" in result.stderr
    assert f"rows {BAD_ROW} of the prepared set" in result.stderr
    (saved,) = (out / "nan-batch-step-3").glob("*.json")
    batch = json.loads(saved.read_text())
    assert (batch["step"], batch["loss"], batch["rows"]) == (3, "nan", [BAD_ROW])
    assert batch["input_ids"][0][3] == POISON
    assert batch["labels"][0][1:] == batch["input_ids"][0][1:]
    assert batch["text"]["input_ids"][0]
    assert [event["step"] for event in read_events(out, "checkpoint")] == [1, 2]
    assert all(event["loss"] == event["loss"] for event in read_events(out, "step"))


@pytest.mark.slow
def test_restarts_on_errors_are_asked_for_as_often_as_allowed(
    config: dict[str, Any], poisoned_model: Path, tmp_path: Path
) -> None:
    """SkyPilot starts a run that ends with 22 again; what can only fail again has a code of its own."""
    alone = {key: value for key, value in config.items() if key != "ray_num_workers"}
    path = write_config(tmp_path / "alone.yml", alone)
    assert [_runner(path, FTL_MAX_RESTARTS_ON_ERRORS="2") for _ in range(3)] == [22, 22, 1]
    elsewhere = write_config(tmp_path / "bad.yml", {**alone, "optimizer": "nothing_like_it"})
    assert _runner(elsewhere, FTL_MAX_RESTARTS_ON_ERRORS="5") == 2


def _runner(config: Path, **env: str) -> int:
    command = [sys.executable, "-m", "ftl_runner", "train", str(config)]
    return subprocess.run(command, cwd=config.parent, env={**os.environ, **env}, capture_output=True).returncode
