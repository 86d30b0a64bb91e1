"""What a rehearsal runs: a small model, the first rows of the data as files, and a config that names them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.canonical import canonical_values, to_yaml
from ftl_config.errors import FtlError
from ftl_config.schema.data import DatasetSpec
from ftl_runner.data.errors import RowError
from ftl_runner.failures import first_line
from ftl_runner.first_rows import first_rows_of, look_at_first_rows
from ftl_runner.models.errors import ModelError
from ftl_runner.models.tokenizer import load_tokenizer
from ftl_runner.rehearsal.settings import MAX_WORKERS, Changes, layers_counted, small_settings
from ftl_runner.rehearsal.shrink import shrink

if TYPE_CHECKING:
    from ftl_config import Config

NUM_ROWS = 64
"""Of each dataset."""

_DATA_KEYS = ("datasets", "test_datasets", "pretraining_dataset")
_OF_THE_SOURCE = (
    "data_files",
    "name",
    "revision",
    "split",
    "skip",
    "shards",
    "shards_idx",
    "weight",
    "trust_remote_code",
)


@dataclass(frozen=True)
class Rehearsal:
    """``config`` is YAML; ``replaced`` has key, before, after and why of each change worth telling."""

    config: str
    replaced: list[dict[str, str]] = field(default_factory=list)


def build_rehearsal(config: Config, folder: Path, *, steps: int, workers: int, model: str | None) -> Rehearsal:
    """Write model and rows below ``folder``.

    Args:
        workers: that the real run has; at most two take part here.
        model: a small model of the same architecture to take, in place of making one.

    Raises:
        FtlError: the model's config or tokenizer, or the data, cannot be read; or no small model can be made of it.
    """
    import torch

    _check_rows(config)
    values = canonical_values(config)
    changes = small_settings(values, folder, steps=steps, on_gpus=torch.cuda.is_available())
    before = str(values.get("base_model"))
    small = model or str(_write_model(config, folder / "model", layers_counted(values)))
    changes.values["base_model"] = small
    changes.told.insert(0, _told("base_model", before, small, "random weights, small" if model is None else "given"))
    for key in _DATA_KEYS:
        if entries := getattr(config.data, key):
            changes.values[key] = [_local_entry(spec, folder / "data", f"{key}-{n}") for n, spec in enumerate(entries)]
    changes.told.insert(1, _told("datasets", "all rows", f"the first {NUM_ROWS} of each", "a slice will do"))
    _fewer_workers(changes, workers)
    return Rehearsal(to_yaml(changes.values), changes.told)


def _check_rows(config: Config) -> None:
    """Rows that cannot be used are told by their own file and line, which the copies below would not have."""
    found = look_at_first_rows(config, NUM_ROWS, elsewhere=False)
    if found.errors:
        first = found.errors[0]
        raise FtlError(first["message"], first["hint"], first["exit_code"])


def _told(key: str, before: str, after: str, why: str) -> dict[str, str]:
    return {"key": key, "before": before, "after": after, "why": why}


def _fewer_workers(changes: Changes, workers: int) -> None:
    few = min(workers, MAX_WORKERS)
    changes.values["ray_num_workers"] = few
    if few < workers:
        changes.told.append(_told("workers", str(workers), str(few), "as many processes as will do"))


def _write_model(config: Config, target: Path, min_layers: int) -> Path:
    """A model with random weights, and the tokenizer as the config has it, new tokens left out."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(config)
    whole = _model_config(config)
    small = whole.from_dict(shrink(whole.to_dict(), min_layers=max(2, min_layers)))
    torch.manual_seed(0)
    try:
        model = AutoModelForCausalLM.from_config(small, dtype=torch.float32)
    except Exception as error:  # each architecture has checks and errors of its own
        raise ModelError(
            f"no small model can be made of {config.model.base_model} ({whole.model_type}): {first_line(error)}",
            "name one of the same architecture: ftl rehearse CONFIG --model NAME",
            exit_code=2,
        ) from error
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def _model_config(config: Config) -> Any:
    from transformers import AutoConfig

    keys = config.model
    name = keys.base_model_config or keys.base_model
    try:
        return AutoConfig.from_pretrained(name, revision=keys.model_revision, trust_remote_code=keys.trust_remote_code)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the config of {name} cannot be read: {first_line(error)}",
            "check base_model, or set HF_TOKEN for a gated model",
            exit_code=2,
        ) from error


def _local_entry(spec: DatasetSpec, folder: Path, name: str) -> dict[str, Any]:
    """The entry with its first rows as a file."""
    told = spec.model_dump(exclude_unset=True, exclude=set(_OF_THE_SOURCE))
    if spec.type == "_synthetic":
        return {**told, "length": min(int(told.get("length") or NUM_ROWS), NUM_ROWS)}
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.jsonl"
    with target.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in _row_lines(spec))
    return {**told, "path": str(target), "ds_type": "json"}


def _row_lines(spec: DatasetSpec) -> Iterator[str]:
    for _, _, row in first_rows_of(spec, NUM_ROWS):
        if row is not None and not isinstance(row, RowError):  # what is bad and skipped was told
            yield json.dumps(row, ensure_ascii=False, default=str)
