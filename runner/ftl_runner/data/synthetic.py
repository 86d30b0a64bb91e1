"""Made-up rows of random tokens (``type: _synthetic``), to measure speed and memory without data."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from ftl_config.schema.data import DatasetSpec
from ftl_runner.data.errors import DataError
from ftl_runner.data.row_readers import RawRow, Reader

SYNTHETIC = "_synthetic"


@dataclass(frozen=True)
class SyntheticRows:
    """``length`` rows of ``sequence_length`` ids between ``min_id`` and ``max_id``, both included."""

    length: int
    sequence_length: int
    min_id: int
    max_id: int
    seed: int

    def fingerprint(self) -> str:
        return f"synthetic:{astuple(self)}"

    def open(self, scratch: Path) -> Reader:
        return self

    def __len__(self) -> int:
        return self.length

    def read(self, start: int, stop: int) -> list[RawRow]:
        return [self._row(index) for index in range(start, stop)]

    def _row(self, index: int) -> RawRow:
        random = np.random.default_rng([self.seed, index])
        ids = random.integers(self.min_id, self.max_id + 1, self.sequence_length).tolist()
        return {"input_ids": ids, "labels": ids}

    def place(self, index: int) -> str:
        return f"{SYNTHETIC}, row {index + 1}"


def make_synthetic(spec: DatasetSpec) -> SyntheticRows:
    """The rows that an entry asks for; what it leaves out is as in Axolotl.

    Raises:
        DataError: no id lies between the two bounds.
    """
    low = 100 if spec.min_input_id is None else spec.min_input_id
    high = 32_000 if spec.max_input_id is None else spec.max_input_id
    if high < low:
        raise DataError(f"max_input_id {high} is below min_input_id {low}", "give a range of token ids")
    seed = 42 if spec.seed is None else spec.seed
    return SyntheticRows(spec.length or 1000, spec.sequence_length or 2048, low, high, seed)
