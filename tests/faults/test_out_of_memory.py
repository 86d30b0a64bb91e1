"""Memory runs out in training: said with what was tried and the keys that help, by their estimated effect."""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ftl_config import FtlError, load_text
from ftl_runner.context import TrainJob
from ftl_runner.failures import explain
from ftl_runner.out_of_memory import BATCH_ATTRIBUTE
from tests.e2e.ftl_cli import FTL, Ftl, read_events, write_config

LIMIT_BYTES = 6 * 2**30


@pytest.mark.slow
def test_a_batch_that_the_machine_cannot_hold(tiny_model: Path, tmp_path: Path) -> None:
    """64 x 512 tokens of a vocabulary of 49,152: 6 GiB of logits, in a process that may have 6 GiB."""
    data = tmp_path / "rows.jsonl"
    ids = list(range(100, 612))
    data.write_text("".join(json.dumps({"input_ids": ids, "labels": ids}) + "\n" for _ in range(64)))
    settings: dict[str, Any] = {
        "base_model": str(tiny_model),
        "datasets": [{"path": str(data), "type": None}],
        "dataset_prepared_path": str(tmp_path / "prepared"),
        "output_dir": str(tmp_path / "out"),
        "sequence_len": 512,
        "micro_batch_size": 64,
        "learning_rate": 1e-3,
        "max_steps": 2,
        "optimizer": "adamw_torch",
    }
    path = write_config(tmp_path / "config.yml", settings)
    ftl = Ftl(tmp_path / "home", tmp_path, {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"})
    result = subprocess.run(
        [*FTL, "train", str(path)],
        cwd=tmp_path,
        env=ftl.env(),
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES)),
    )
    assert result.returncode == 10, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    (error,) = read_events(tmp_path / "out", "error") or [None]
    for word in ("out of memory", "tried: 64 x 512 tokens, float32, a full fine-tune", "peak so far", "of 6.0 GiB"):
        assert word in result.stderr
    assert "logits and loss 18.0 GiB" in result.stderr
    for word in ("micro_batch_size: ", "sequence_len: 256 (-", "GiB, then"):
        assert word in result.stderr
    assert error is None or error["exit_code"] == 10


def job_of(tmp_path: Path, model: dict[str, Any] | None) -> TrainJob:
    folder = tmp_path / "model"
    folder.mkdir()
    if model is not None:
        (folder / "config.json").write_text(json.dumps(model))
    text = (
        f"base_model: {folder}\ndatasets: [{{path: a.jsonl, type: alpaca}}]\nlearning_rate: 1e-4\nmicro_batch_size: 8"
    )
    return TrainJob(load_text(text), "run", None, resume=False, workdir=str(tmp_path))


LLAMA = {
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": True,
}


def test_the_batch_at_hand_is_what_is_told(tmp_path: Path) -> None:
    error = MemoryError("unable to allocate")
    setattr(error, BATCH_ATTRIBUTE, (8, 300))
    known = explain(error, tmp_path, job_of(tmp_path, LLAMA))
    assert "tried: 8 x 300 tokens" in known.message
    assert (known.hint or "").count(", then ") == 3
    assert known.exit_code == 10


def test_a_model_of_unknown_shape_gets_general_advice(tmp_path: Path) -> None:
    known = explain(RuntimeError("HIP error: out of memory"), tmp_path, job_of(tmp_path, None))
    assert isinstance(known, FtlError)
    assert known.message == "out of memory: HIP error: out of memory"
    assert "micro_batch_size" in (known.hint or "")
