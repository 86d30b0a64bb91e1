"""ReLoRA through the command line: a run that is resumed between restarts ends with the same adapter, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.ftl_cli import Ftl, losses, read_events, write_config

pytestmark = pytest.mark.slow


def test_resumes_exactly_across_a_restart(ftl: Ftl, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    settings = {
        **tiny_config,
        "adapter": "qlora",
        "load_in_4bit": True,
        "deepspeed": None,
        "relora": True,
        "jagged_restart_steps": 4,
        "jagged_restart_warmup_steps": 1,
        "max_steps": 10,
        "save_steps": 6,
    }
    path, out = write_config(tmp_path / "config.yml", settings), Path(settings["output_dir"])
    ftl.run("train", str(path), "--launcher", "single")
    assert [file.name for file in (out / "checkpoint-6/relora").iterdir()] == ["adapter-1.safetensors"]
    rates = {event["step"]: event["learning_rate"] for event in read_events(out, "step")}
    assert rates[5] < 0.01 * rates[4]  # the rate of the first step after a restart
    found = losses(out)
    assert found[10] < found[1] - 0.05

    other = tmp_path / "other"
    given = {**settings, "output_dir": str(other), "resume_from_checkpoint": str(out / "checkpoint-6")}
    ftl.run("train", str(write_config(tmp_path / "other.yml", given)), "--launcher", "single")
    assert read_events(other, "resumed")[-1]["step"] == 6
    again = losses(other)
    assert all(again[step] == found[step] for step in range(7, 11)), (found, again)
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (out, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert one["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].shape[0] == 3 * 8  # of three teeth

    ftl.run("merge-lora", str(path))
    assert (out / "merged/model.safetensors").is_file()
