"""`ftl train`: how rows are batched changes speed and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ftl_cli import Ftl, losses, read_events, read_metrics, write_config

pytestmark = pytest.mark.slow

# A step of each holds the whole set: accumulation ends with the epoch.
BATCHINGS: dict[str, dict[str, Any]] = {
    "padded": {"micro_batch_size": 7, "batch_flattening": False},
    "joined": {"micro_batch_size": 7},  # what a CPU does with unpacked rows when it is not told
    "packed": {"sample_packing": True, "micro_batch_size": 2, "eval_sample_packing": False},
    "flattened": {"batch_flattening": True, "micro_batch_size": 5, "eval_sample_packing": True},
}


def test_packed_padded_and_flattened_runs_are_one(ftl: Ftl, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    rows = Path(tiny_config["datasets"][0]["path"]).read_text().splitlines()
    (tmp_path / "train.jsonl").write_text("\n".join(rows[:24]) + "\n")
    (tmp_path / "test.jsonl").write_text("\n".join(rows[24:35]) + "\n")
    source = {"type": "chat_template"}
    shared = {name: value for name, value in tiny_config.items() if not name.startswith(("lora", "adapter", "max_"))}
    shared |= {
        "datasets": [{"path": "train.jsonl", **source}],
        "test_datasets": [{"path": "test.jsonl", **source}],
        "deepspeed": None,
        "num_epochs": 4,
        "gradient_accumulation_steps": 100,
        "save_strategy": "no",
        "save_steps": None,
        "eval_strategy": "epoch",
        "warmup_steps": 0,
    }
    found = {}
    for name, batching in BATCHINGS.items():
        out = tmp_path / name
        ftl.run("train", str(write_config(tmp_path / f"{name}.yml", {**shared, **batching, "output_dir": str(out)})))
        evaluated = [event["eval_loss"] for event in read_events(out, "eval")]
        found[name] = (losses(out), evaluated, read_events(out, "step")[-1], read_metrics(out)["data"])
    by_step, evaluated, event, data = found["padded"]
    assert len(by_step) == len(evaluated) == 4
    assert by_step[4] < by_step[1] - 0.1
    assert event["tokens"] == 4 * data["tokens"]
    assert event["trained_tokens"] == 4 * data["trained_tokens"]
    assert found["packed"][3]["num_bins"] < 24
    for name, (others, other_evaluated, other_event, _) in found.items():
        assert others == pytest.approx(by_step, rel=1e-4), name
        assert other_evaluated == pytest.approx(evaluated, rel=1e-4), name
        assert (other_event["tokens"], other_event["trained_tokens"]) == (event["tokens"], event["trained_tokens"])


def test_a_model_that_would_leak_is_refused_before_any_work(
    ftl: Ftl, tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    from transformers import AutoConfig

    model = tmp_path / "mpt"
    shutil.copytree(tiny_config["base_model"], model, ignore=shutil.ignore_patterns("config.json", "*.safetensors"))
    AutoConfig.for_model("mpt").save_pretrained(model)
    settings = {**tiny_config, "base_model": str(model), "sample_packing": True, "deepspeed": None}
    result = ftl.run("train", str(write_config(tmp_path / "config.yml", settings)), check=False)
    text = result.stdout + result.stderr
    assert result.returncode == 2, text
    assert "sample_packing cannot be used with models of type mpt" in text
    assert "sample_packing: false" in text
    assert "Traceback" not in text
    assert not (tmp_path / "prepared").exists()
