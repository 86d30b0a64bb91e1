"""`ftl train` on preferences, as a user runs it: two ranks and a resumed run walk the trajectory of one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ftl_cli import Ftl, losses, read_events, read_metrics, write_config

pytestmark = pytest.mark.slow

TWO_RANKS = ("--launcher", "torchrun", "--", "--nproc_per_node=2")


@pytest.fixture
def settings(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    rows = [
        {"prompt": f"Count {n}.", "chosen": " ".join(["one two", "three"][: 1 + n % 2]), "rejected": "I cannot."}
        for n in range(26)
    ]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "base_model": str(tiny_model),
        "rl": "dpo",
        "adapter": "lora",
        "lora_r": 8,
        "lora_alpha": 16,
        "lora_target_linear": True,
        "datasets": [{"path": str(data), "type": "chatml.prompt_pairs"}],
        "val_set_size": 2,
        "dataset_prepared_path": str(tmp_path / "prepared"),
        "sequence_len": 64,
        "max_steps": 6,
        "micro_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "learning_rate": 5e-3,
        "optimizer": "adamw_torch",
        "lr_scheduler": "constant",
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_steps": 3,
        "eval_steps": 3,
        "generate_samples": True,
        "num_generation_samples": 1,
        "generation_max_new_tokens": 4,
        "seed": 7,
    }


def test_ranks_and_interruptions_change_nothing(ftl: Ftl, settings: dict[str, Any], tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    ftl.run("train", str(write_config(tmp_path / "one.yml", {**settings, "output_dir": str(one)})))
    assert losses(one)[1] == pytest.approx(0.693147, abs=1e-5)
    margins = [event["metrics"]["rewards/margins"] for event in read_events(one, "step")]
    assert margins[0] == pytest.approx(0, abs=1e-6)
    assert margins[-1] > 0.1
    evaluated = read_events(one, "eval")[-1]
    assert evaluated["metrics"]["eval_rewards/accuracies"] == 1.0
    metrics = read_metrics(one)
    assert metrics["history"][-1]["eval_rewards/margins"] > 0.1
    assert metrics["samples"][0]["prompt"].startswith("Count ")
    assert (one / "adapter_model.safetensors").is_file()
    assert not list(one.rglob("ref"))

    shared = write_config(tmp_path / "two.yml", {**settings, "output_dir": str(two), "micro_batch_size": 2})
    ftl.run("train", str(shared), "--max-steps", "3", *TWO_RANKS)
    ftl.run("train", str(shared), "--auto-resume-from-checkpoints", *TWO_RANKS)
    assert read_events(two, "resumed")[-1]["step"] == 3
    assert sorted(losses(two)) == sorted(losses(one))
    for step, loss in losses(one).items():
        assert losses(two)[step] == pytest.approx(loss, rel=1e-4), f"step {step}"
    assert read_events(two, "eval")[-1]["metrics"] == pytest.approx(evaluated["metrics"], rel=1e-3, abs=1e-4)


def test_what_no_method_is_for_is_refused_before_anything_starts(ftl: Ftl, settings: dict[str, Any]) -> None:
    path = write_config(ftl.cwd / "config.yml", {**settings, "rl": "ebft", "output_dir": "out"})
    refused = ftl.run("train", str(path), check=False)
    assert refused.returncode == 2
    assert "rl: not yet supported: energy-based fine-tuning" in refused.stdout + refused.stderr
