"""Configs and command lines of the end-to-end tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import S3Server
from e2e.ftl_cli import Ftl


@pytest.fixture
def ftl(tmp_path: Path, s3_server: S3Server) -> Ftl:
    return Ftl(tmp_path / "home", tmp_path, s3_server.environment)


@pytest.fixture
def tiny_config(tiny_model: Path, small_data: Path, tmp_path: Path) -> dict[str, Any]:
    """Two ZeRO-2 workers, dropout on (so that random state matters), ~0.2 s a step."""
    return {
        "base_model": str(tiny_model),
        "adapter": "lora",
        "lora_r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "lora_target_linear": True,
        "lora_modules_to_save": ["embed_tokens"],
        "datasets": [{"path": str(small_data), "type": "chat_template"}],
        "dataset_prepared_path": str(tmp_path / "prepared"),
        "sequence_len": 512,
        "output_dir": str(tmp_path / "out"),
        "max_steps": 24,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 0.01,
        "optimizer": "adamw_torch",
        "warmup_steps": 2,
        "save_steps": 8,
        "logging_steps": 1,
        "seed": 7,
        "deepspeed": "zero2",
        "ray_num_workers": 2,
    }
