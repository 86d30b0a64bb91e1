"""What the keys of loading do to batches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from ftl_runner.data.collate import PackedCollator, PaddedCollator
from ftl_runner.trainer.arguments import make_arguments, make_schedule
from ftl_runner.trainer.token_trainer import TokenTrainer
from tests.unit.runner.snippets import CPU, config_of
from tests.unit.runner.tiny_models import tiny_causal_model

LENGTHS = [3, 40, 5, 38, 4, 41, 6, 39, 3, 42, 5] * 8


class TellsItsProcess(PaddedCollator):
    def __call__(self, rows: Any) -> dict[str, torch.Tensor]:
        return super().__call__(rows) | {"process": torch.full((len(rows),), os.getpid())}


def batches(folder: Path, lines: str) -> list[dict[str, torch.Tensor]]:
    config = config_of(f"micro_batch_size: 5\noutput_dir: {folder}\n{lines}")
    rows = [{"input_ids": [7] * length, "labels": [7] * length, "length": length} for length in LENGTHS]
    trainer = TokenTrainer(
        model=tiny_causal_model("llama"),
        args=make_arguments(config, CPU, make_schedule(config, len(rows), 1)),
        train_dataset=Dataset.from_list(rows),
        data_collator=TellsItsProcess(0, joined=PackedCollator(0)),
    )
    return list(trainer.get_train_dataloader())


def padding(found: list[dict[str, torch.Tensor]]) -> float:
    slots = sum(batch["input_ids"].numel() for batch in found)
    return 1 - sum(LENGTHS) / slots


def test_group_by_length_saves_padding(tmp_path: Path) -> None:
    """transformers groups within a few batches' worth of shuffled rows, not over the whole set."""
    plain, grouped = (padding(batches(tmp_path, lines)) for lines in ("", "group_by_length: true"))
    assert plain > 0.3
    assert grouped < 0.7 * plain


@pytest.mark.parametrize(("lines", "expected"), [("", 18), ("dataloader_drop_last: true", 17)])
def test_the_last_smaller_batch(lines: str, expected: int, tmp_path: Path) -> None:
    found = batches(tmp_path, lines)
    assert len(found) == expected == make_schedule(config_of(f"micro_batch_size: 5\n{lines}"), 88, 1).steps_per_epoch
    assert len(found[-1]["input_ids"]) == (5 if lines else 3)


def test_worker_processes_load(tmp_path: Path) -> None:
    lines = "dataloader_num_workers: 2\ndataloader_prefetch_factor: 1"
    processes = {int(process) for batch in batches(tmp_path, lines) for process in batch["process"]}
    assert len(processes) == 2
    assert os.getpid() not in processes
