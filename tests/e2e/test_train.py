"""`ftl train`: what a run leaves behind, and how it ends and goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.ftl_cli import Ftl, losses, reached_step, read_events, wait_for, write_config

pytestmark = pytest.mark.slow


def train(ftl: Ftl, settings: dict[str, Any], folder: Path, *args: str, tail: tuple[str, ...] = ()) -> dict[int, float]:
    out = folder / "out"
    settings = {**settings, "output_dir": str(out), "lora_dropout": 0.0, "max_steps": 12, "learning_rate": 2e-3}
    path = write_config(folder / "config.yml", settings)
    ftl.run("train", str(path), *args, *tail)
    assert (out / "adapter_model.safetensors").is_file()
    return losses(out)


def test_qlora_learns_and_merges(ftl: Ftl, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    """A 4-bit base, an optimizer and a schedule that transformers lacks, rates by group; then one plain model."""
    settings = {
        **tiny_config,
        "adapter": "qlora",
        "load_in_4bit": True,
        "deepspeed": None,
        "optimizer": "muon",
        "lr_scheduler": "rex",
        "loraplus_lr_ratio": 2,
        "max_steps": 8,
        "save_steps": 8,
    }
    path = write_config(tmp_path / "config.yml", settings)
    ftl.run("train", str(path), "--launcher", "single")
    out = Path(settings["output_dir"])
    found = losses(out)
    assert found[8] < found[1] - 0.05
    rates = {event["step"]: event["learning_rate"] for event in read_events(out, "step")}
    assert rates[3] == pytest.approx(0.01)  # the warm-up is over after two steps
    assert rates[8] == pytest.approx(0.01 * (1 / 6) / (0.1 + 0.9 / 6))
    ftl.run("merge-lora", str(path))
    assert (out / "merged" / "model.safetensors").is_file()


def test_packed_training_runs_and_learns(ftl: Ftl, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    settings = {**tiny_config, "sample_packing": True, "pad_to_sequence_len": True, "deepspeed": None}
    by_step = train(ftl, settings, tmp_path)
    assert by_step[12] < by_step[1] - 0.1


def test_stops_early_with_the_best_model(ftl: Ftl, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    """A rate at which it gets worse: training ends, and what is saved is the best checkpoint, kept though old."""
    settings = {
        **tiny_config,
        "deepspeed": None,
        "learning_rate": 0.5,
        "lr_scheduler": "constant",
        "max_steps": 60,
        "val_set_size": 8,
        "eval_steps": 2,
        "save_steps": 2,
        "early_stopping_patience": 3,
        "save_total_limit": 1,
    }
    path, out = write_config(tmp_path / "config.yml", settings), Path(settings["output_dir"])
    ftl.run("train", str(path), "--launcher", "single")
    found = {event["step"]: event["eval_loss"] for event in read_events(out, "eval")}
    best, last = min(found, key=lambda step: found[step]), max(found)
    assert last == best + 6 < 60, found
    assert {folder.name for folder in out.glob("checkpoint-*")} == {f"checkpoint-{best}", f"checkpoint-{last}"}
    saved, kept = (load_file(folder / "adapter_model.safetensors") for folder in (out, out / f"checkpoint-{best}"))
    assert all(torch.equal(saved[name], kept[name]) for name in kept)


def test_ctrl_c_saves_a_checkpoint(ftl: Ftl, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    settings = {**tiny_config, "deepspeed": None, "max_steps": 2000, "save_steps": 1000}
    path, out = write_config(tmp_path / "config.yml", settings), Path(settings["output_dir"])
    process = ftl.start("train", str(path))
    wait_for(lambda: reached_step(out, 3), "step 3")
    os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 130, text
    assert "Traceback" not in text
    stopped_at = read_events(out, "checkpoint")[-1]["step"]
    assert (out / f"checkpoint-{stopped_at}/ftl_manifest.json").is_file()

    total = stopped_at + 3
    ftl.run("train", str(path), "--auto-resume-from-checkpoints", "--max-steps", str(total))
    assert read_events(out, "resumed")[-1]["step"] == stopped_at
    assert read_events(out, "step")[-1]["step"] == total


def test_two_processes_resume_without_deepspeed(ftl: Ftl, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    settings = {**tiny_config, "deepspeed": None, "max_steps": 2, "save_steps": 2}
    path, out = write_config(tmp_path / "config.yml", settings), Path(settings["output_dir"])
    two = ("--launcher", "torchrun", "--", "--nproc_per_node=2")
    ftl.run("train", str(path), *two)
    ftl.run("train", str(path), "--auto-resume-from-checkpoints", "--max-steps", "3", *two)
    assert read_events(out, "resumed")[-1]["step"] == 2
    assert read_events(out, "step")[-1]["step"] == 3
