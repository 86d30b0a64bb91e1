"""The loss of LoRA in float32 is that of plain transformers and PEFT: within 1e-3 relative over 50 steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.e2e.ftl_cli import Ftl, losses, write_config
from tests.full_matrix import full_matrix

pytestmark = pytest.mark.slow

TOLERANCE = 1e-3
STEPS = 50


SMOLLM2 = pytest.param("smollm2", marks=[full_matrix, pytest.mark.timeout(3600)])


@pytest.mark.parametrize("base", ["mini_model", SMOLLM2])
def test_fifty_steps_as_plain_transformers(
    base: str, request: pytest.FixtureRequest, ftl: Ftl, small_data: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "base_model": str(request.getfixturevalue(base)),
        "datasets": [{"path": str(small_data), "type": "chat_template"}],
        "shuffle_merged_datasets": False,  # the Trainer shuffles; ftl by itself does so once before
        "dataset_prepared_path": str(tmp_path / "prepared"),
        "output_dir": str(tmp_path / "out"),
        "sequence_len": 512 if base == "mini_model" else 128,
        "adapter": "lora",
        "lora_r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "lora_target_linear": True,
        "max_steps": STEPS,
        "micro_batch_size": 2 if base == "mini_model" else 1,
        "gradient_accumulation_steps": 2,
        "learning_rate": 0.01 if base == "mini_model" else 2e-4,
        "lr_scheduler": "cosine",
        "warmup_steps": 5,
        "optimizer": "adamw_torch",
        "weight_decay": 0.01,
        "max_grad_norm": 0.5,
        "save_strategy": "no",
        "logging_steps": 1,
        "seed": 7,
        "generate_samples": False,
    }
    ftl.run("train", str(write_config(tmp_path / "config.yml", settings)), timeout_s=1800)
    found = losses(tmp_path / "out")
    expected = plain(settings, tmp_path)
    assert len(expected) == len(found) == STEPS
    assert expected[-1] < expected[0] - 0.1
    differences = [abs(found[step] / loss - 1) for step, loss in enumerate(expected, start=1)]
    print(f"{base}: largest relative difference {max(differences):.1e}")
    assert max(differences) < TOLERANCE


def plain(settings: dict[str, Any], folder: Path) -> list[float]:
    command = [sys.executable, "-m", "tests.invariant.plain_transformers", json.dumps(settings), str(folder / "plain")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stderr[-3000:]
    curve: list[float] = json.loads(result.stdout.splitlines()[-1])
    return curve
