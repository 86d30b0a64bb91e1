"""Reward models and reinforcement learning through `ftl train`, on two ranks."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ftl_cli import Ftl, read_events, read_metrics, write_config
from tests.unit.runner.one_run import run_once, write_rows
from tests.unit.runner.word_model import REWARDS, WORDS, write_word_model

pytestmark = pytest.mark.slow
LORA = {"adapter": "lora", "lora_r": 8, "lora_target_linear": True}
TWO_RANKS = ("--launcher", "torchrun", "--", "--nproc_per_node=2")


@pytest.fixture
def ftl(tmp_path: Path) -> Ftl:
    return Ftl(tmp_path / "home", tmp_path, {"OMP_NUM_THREADS": "1"})


def settings(model: Path, folder: Path, **keys: Any) -> dict[str, Any]:
    return {
        "base_model": str(model),
        "chat_template": "chatml",
        "dataset_prepared_path": str(folder / "prepared"),
        "sequence_len": 96,
        "output_dir": str(folder / "out"),
        "gradient_accumulation_steps": 1,
        "lr_scheduler": "constant",
        "optimizer": "adamw_torch",
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        **LORA,
        **keys,
    }


def test_two_ranks_train_the_reward_model_of_one(ftl: Ftl, tiny_model: Path, tmp_path: Path) -> None:
    draw = random.Random(4)
    rows = [
        {"input": " ".join(draw.choices(WORDS, k=4)), "chosen": f"{word} good", "rejected": f"{word} bad"}
        for word in draw.choices(WORDS, k=64)
    ]
    data = [{"path": write_rows(tmp_path / "pairs.jsonl", rows), "type": "bradley_terry.chat_template"}]
    keys = {"reward_model": True, "datasets": data, "max_steps": 8, "learning_rate": 3e-3, "micro_batch_size": 4}
    ftl.run("train", str(write_config(tmp_path / "config.yml", settings(tiny_model, tmp_path, **keys))), *TWO_RANKS)
    assert read_events(tmp_path / "out", "train_start")[0]["world_size"] == 2
    one = settings(tiny_model, tmp_path, **keys) | {"gradient_accumulation_steps": 2}
    one |= {"output_dir": str(tmp_path / "one")}
    alone, history = run_once(one), read_metrics(tmp_path / "out")["history"]
    for name in ("loss", "accuracy", "margin"):
        assert [row[name] for row in history] == pytest.approx(alone.history(name), rel=1e-4, abs=1e-6), name


def test_two_ranks_learn_from_a_reward_function_beside_the_config(ftl: Ftl, tmp_path: Path) -> None:
    """Groups of 16 answers lie over both ranks."""
    (tmp_path / "own_rewards.py").write_text(REWARDS)
    draw = random.Random(4)
    rows = [{"prompt": [{"role": "user", "content": " ".join(draw.choices(WORDS, k=3))}]} for _ in range(32)]
    keys = {
        "rl": "grpo",
        "trl": {"reward_funcs": ["own_rewards.good_words"], "num_generations": 16, "max_completion_length": 6},
        "datasets": [{"path": write_rows(tmp_path / "prompts.jsonl", rows)}],
        "max_steps": 16,
        "learning_rate": 1e-2,
        "micro_batch_size": 16,
    }
    model = write_word_model(tmp_path / "model")
    values = {name: value for name, value in settings(model, tmp_path, **keys).items() if name not in LORA}
    ftl.run("train", str(write_config(tmp_path / "config.yml", values)), *TWO_RANKS)
    metrics = read_metrics(tmp_path / "out")
    rewards = [row["reward"] for row in metrics["history"]]
    assert metrics["world_size"] == 2
    assert sum(rewards[-3:]) > 2 * sum(rewards[:3]), rewards
    wrong = ftl.run("train", "config.yml", "--trl.reward-funcs", "[own_reward.good_words]", check=False)
    assert wrong.returncode == 2
    assert "no such file: own_reward.py" in wrong.stdout + wrong.stderr
