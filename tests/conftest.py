"""Fixtures that every test can use: an isolated home, the S3 server, the real tokenizer and small models."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.s3 import ROOT, S3_CREDENTIALS, S3Server, running_s3_server
from tests.tiny_llama import write_tiny_llama

DATA = ROOT / "templates/examples/data/answer_why_try.jsonl"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew instead of comparing")


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records go to a folder of the test's own; no test talks to a hub or uses the user's credentials."""
    monkeypatch.setenv("FTL_HOME", str(tmp_path_factory.mktemp("ftl-home")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in (*S3_CREDENTIALS, "AWS_ENDPOINT_URL", "AWS_PROFILE", "FTL_RUN_ID", "FTL_CHECKPOINT_URI", "FTL_EVENTS"):
        monkeypatch.delenv(name, raising=False)
    if "boto3" in sys.modules:  # its default session remembers the credentials of an earlier test
        monkeypatch.setattr(sys.modules["boto3"], "DEFAULT_SESSION", None)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """moto on loopback with the bucket ``ftl-test``."""
    with running_s3_server("ftl-test") as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The S3 server, with its credentials in this test's environment."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a model directory, written once and kept between test runs."""
    from ftl_runner.demo_model import write_demo_model

    return write_demo_model(ROOT / ".demo/models/SmolLM2-135M-Instruct")


@pytest.fixture(scope="session")
def tiny_model(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 2 layers with SmolLM2's tokenizer: trains in milliseconds a step."""
    from transformers import AutoTokenizer

    target = tmp_path_factory.mktemp("models") / "tiny-llama"
    write_tiny_llama(target, AutoTokenizer.from_pretrained(smollm2))
    return target


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 64 conversations of the demo data."""
    target = tmp_path_factory.mktemp("data") / "small.jsonl"
    rows = DATA.read_text().splitlines()[:64]
    assert all(json.loads(row)["messages"] for row in rows)
    target.write_text("\n".join(rows) + "\n")
    return target


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
