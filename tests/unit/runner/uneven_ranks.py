"""Rows with very different numbers of trained tokens; run as a module, one rank of a training step over them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.unit.runner.tiny_models import VOCABULARY, tiny_causal_model

IGNORE = -100
_SHAPES = ((12, 11), (9, 1), (7, 2), (12, 9), (5, 1), (8, 6))
"""Length and trained tokens of each row."""


def _rows() -> list[dict[str, Any]]:
    random = np.random.default_rng(5)
    rows = []
    for length, trained in _SHAPES:
        ids = random.integers(1, VOCABULARY, length).tolist()
        rows.append({"input_ids": ids, "labels": [IGNORE] * (length - trained) + ids[length - trained :]})
    return rows


ROWS = _rows()
PACKED = [[0, 1], [2, 3], [4, 5]]


def packed_trainer_rows() -> list[dict[str, Any]]:
    """``ROWS``, two in a row."""
    return [
        {
            "input_ids": [token for number in group for token in ROWS[number]["input_ids"]],
            "labels": [label for number in group for label in ROWS[number]["labels"]],
            "position_ids": [place for number in group for place in range(len(ROWS[number]["input_ids"]))],
        }
        for group in PACKED
    ]


def mean_loss(rows: list[dict[str, Any]], update: list[torch.Tensor] | None = None) -> float:
    """Cross-entropy a trained token, each row by itself, in plain PyTorch; of the model with ``update`` added."""
    model, total, count = tiny_causal_model("llama"), 0.0, 0
    with torch.no_grad():
        for parameter, change in zip(model.parameters(), update or (), strict=bool(update)):
            parameter += change
    for row in rows:
        labels = torch.tensor(row["labels"][1:])
        with torch.no_grad():
            logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum").item()
        count += int((labels != IGNORE).sum())
    return total / count


def _deepspeed(stage: int) -> dict[str, Any]:
    return {
        "zero_optimization": {"stage": stage},
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_allow_untested_optimizer": True,
    }


def main(folder: Path, zero_stage: int | None) -> None:
    """Train one step on this rank's half of the rows, then evaluate five rows; rank 0 writes ``result.pt``."""
    from ftl_runner.data.collate import PackedCollator, PaddedCollator
    from tests.unit.runner.test_token_trainer import trainer_of

    options: dict[str, Any] = {"deepspeed": _deepspeed(zero_stage)} if zero_stage else {}
    model = tiny_causal_model("llama")
    before = [parameter.detach().clone() for parameter in model.parameters()]
    collator = PaddedCollator(0, joined=PackedCollator(0))
    trainer = trainer_of(
        folder,
        model,
        collator,
        ROWS,
        ROWS[:5],
        max_steps=1,
        per_device_train_batch_size=1,
        per_device_eval_batch_size=2,
        gradient_accumulation_steps=3,
        **options,
    )
    trainer.train()
    eval_loss = trainer.evaluate()["eval_loss"]
    update = [new.detach() - old for new, old in zip(model.parameters(), before, strict=True)]
    if trainer.args.process_index == 0:
        loss = next(row["loss"] for row in trainer.state.log_history if "loss" in row)
        found = {"loss": loss, "update": update, "eval_loss": eval_loss, "trained": int(trainer.token_count.trained)}
        torch.save(found, folder / "result.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2] else None)
