"""Prepared sets: what training reads, and how a cache directory is opened."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_runner.data.cache import REPORT_NAME
from ftl_runner.data.report import PrepareReport

if TYPE_CHECKING:
    from datasets import Dataset

REJECTED_NAME = "rejected.jsonl"


@dataclass(frozen=True)
class Prepared:
    """Arrow-backed sets with columns input_ids, labels, length and, packed, position_ids; or a stream to train on.

    Those of preference methods have the columns of ``preference/write.py``.
    """

    train: Any
    """A ``Dataset``, or the ``StreamSet`` of a streamed config."""
    eval: Dataset | None
    report: PrepareReport

    def splits(self) -> dict[str, Any]:
        """The sets by the hub's names of splits."""
        return {"train": self.train} | ({} if self.eval is None else {"validation": self.eval})


def load_prepared(folder: Path, *, cache_hit: bool = True) -> Prepared:
    """The sets in a complete cache directory."""
    values = json.loads((folder / REPORT_NAME).read_text(encoding="utf-8"))
    rejected = folder / REJECTED_NAME
    report = replace(
        PrepareReport.from_dict(values),
        cache_hit=cache_hit,
        cache_path=str(folder),
        rejected_path=str(rejected) if rejected.exists() else None,
    )
    return _PreparedFolder(folder, report)


class _PreparedFolder(Prepared):
    """Opens its sets when they are first asked for: ``ftl preprocess`` mostly wants the report alone, and importing
    datasets (which brings pandas) takes a second.
    """

    _folder: Path

    def __init__(self, folder: Path, report: PrepareReport) -> None:
        object.__setattr__(self, "_folder", folder)
        object.__setattr__(self, "report", report)

    @cached_property
    def train(self) -> Dataset:  # type: ignore[override]
        return self._open("train.arrow")

    @cached_property
    def eval(self) -> Dataset | None:  # type: ignore[override]
        return self._open("eval.arrow") if (self._folder / "eval.arrow").exists() else None

    def _open(self, name: str) -> Dataset:
        from datasets import Dataset

        return Dataset.from_file(str(self._folder / name))
