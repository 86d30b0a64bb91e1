"""A streamed run that was stopped goes on with the rows that it has not seen: losses as if it had never stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ftl_cli import Ftl, losses, read_events, write_config

pytestmark = pytest.mark.slow


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Documents that all differ, so that a row seen twice or left out changes the losses."""
    path = tmp_path / "texts.jsonl"
    rows = [{"text": f"Document {n}: " + " ".join(str(n * k % 997) for k in range(5 + n % 40))} for n in range(300)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(ftl: Ftl, settings: dict[str, Any], folder: Path, *flags: str) -> dict[int, float]:
    folder.mkdir(exist_ok=True)
    path = write_config(folder / "config.yml", {**settings, "output_dir": str(folder / "out")})
    ftl.run("train", str(path), "--launcher", "torchrun", *flags, "--", "--nproc_per_node=2")
    return losses(folder / "out")


def test_a_resumed_stream_goes_on_where_it_was(
    ftl: Ftl, tiny_config: dict[str, Any], texts: Path, tmp_path: Path
) -> None:
    settings = {
        **{key: value for key, value in tiny_config.items() if key != "datasets"},
        "pretraining_dataset": [{"path": str(texts), "type": "pretrain"}],
        "sequence_len": 128,
        "sample_packing": True,
        "streaming_multipack_buffer_size": 20,
        "dataloader_num_workers": 2,
        "gradient_accumulation_steps": 1,  # an odd number of batches: the resumed run begins with the second worker
        "lr_scheduler": "constant",  # else it would follow max_steps
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "save_steps": 100,
    }
    whole = run(ftl, {**settings, "max_steps": 13}, tmp_path / "whole")
    run(ftl, {**settings, "max_steps": 5}, tmp_path / "halves")
    halves = run(ftl, {**settings, "max_steps": 13}, tmp_path / "halves", "--auto-resume-from-checkpoints")
    assert read_events(tmp_path / "halves/out", "resumed")[-1]["step"] == 5
    assert len(halves) == len(whole) == 13
    assert halves == pytest.approx(whole, rel=1e-5)
    assert len({round(loss, 4) for loss in whole.values()}) > 10
