"""A loss that is not a number ends the run, before it gets into the weights, with the batch that gave it saved.

The loss is judged, not the gradient: under float16 gradients overflow now and then, and loss scaling takes care of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftl_config.errors import FtlError
from ftl_runner.context import RunContext
from ftl_runner.trainer.step_record import StepRecord

FOLDER = "nan-batch-step-{step}"
_ROWS_LOOKED_AT = 200_000
"""Of a larger set only these are compared with the batch."""


class StopOnNanLoss(TrainerCallback):  # type: ignore[misc]
    """Look at the losses of a step once, when its gradients are there, on all ranks together.

    Raises:
        FtlError: on every rank, where one of them has a loss that is not finite.
    """

    def __init__(self, context: RunContext, record: StepRecord) -> None:
        self._context = context
        self._record = record

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        losses = self._record.losses
        bad = bool(losses) and not bool(torch.isfinite(torch.stack([loss.float() for loss in losses])).all())
        if not self._context.ranks.any(bad):
            return
        step, ranks = state.global_step + 1, self._context.ranks
        folder = self._context.output_dir / FOLDER.format(step=step)
        saved = _save(self._record, folder, step, ranks.rank, given) if bad else []
        found = [entry for entries in ranks.gather(saved) for entry in entries]
        raise _error(step, folder, found, state)


def _error(step: int, folder: Path, found: list[dict[str, Any]], state: TrainerState) -> FtlError:
    rows = sorted({row for entry in found for row in entry.get("rows") or ()})
    where = f" (rows {', '.join(map(str, rows[:10]))} of the prepared set)" if rows else ""
    ranks = sorted({entry["rank"] for entry in found})
    on = f" on rank {', '.join(map(str, ranks))}" if state.is_world_process_zero and len(ranks) and max(ranks) else ""
    return FtlError(
        f"the loss of step {step} is {found[0]['loss']}{on}: stopped before the weights change; "
        f"the batch is in {folder}{where}",
        "look at that batch; lower learning_rate, raise warmup_steps, or use bf16 in place of fp16, and go on from "
        "the last checkpoint with auto_resume_from_checkpoints: true. stop_on_nan_loss: false trains on regardless",
    )


def _save(record: StepRecord, folder: Path, step: int, rank: int, given: dict[str, Any]) -> list[dict[str, Any]]:
    """One JSON file a bad micro batch of this rank; returns their heads, without tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    heads = []
    for number, (batch, loss) in enumerate(zip(record.batches, record.losses, strict=False)):
        if bool(torch.isfinite(loss)):
            continue
        tensors = batch.items() if isinstance(batch, Mapping) else ()  # GRPO's are prompts, whose answers come later
        values = {name: value.tolist() for name, value in tensors if isinstance(value, torch.Tensor)}
        head = {"step": step, "rank": rank, "micro_batch": number, "loss": str(loss.item())}
        head["rows"] = _rows(values, given.get("train_dataloader"))
        texts = _texts(values, given.get("processing_class"))
        file = folder / f"rank-{rank}-micro-{number}.json"
        file.write_text(json.dumps({**head, "text": texts, **values}, ensure_ascii=False))
        heads.append(head)
    return heads


def _texts(values: dict[str, Any], tokenizer: Any) -> dict[str, list[str]]:
    """Each row of ids as text, where there is a tokenizer to say it."""
    if tokenizer is None or not hasattr(tokenizer, "decode"):
        return {}
    return {
        name: [tokenizer.decode(row) for row in rows] for name, rows in values.items() if name.endswith("input_ids")
    }


def _rows(values: dict[str, Any], loader: Any) -> list[int] | None:
    """Numbers of the batch's rows in the prepared set, where that can be told by their tokens."""
    dataset, ids = getattr(loader, "dataset", None), values.get("input_ids")
    if ids is None or dataset is None or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        return None
    found = []
    for number in range(min(len(dataset), _ROWS_LOOKED_AT)):
        row = dataset[number].get("input_ids")
        tokens = None if row is None else list(map(int, row))
        if tokens and any(given[: len(tokens)] == tokens for given in ids):
            found.append(number)
    return found
