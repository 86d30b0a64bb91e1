"""Rows -> a batch of tensors.

Packed rows carry position_ids that restart at 0 with each sequence, and no attention_mask: transformers isolates the
sequences only then (with an all-ones mask, or with a key-value cache, they see each other silently; the model has to
be called with ``use_cache=False``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ftl_runner.data.encode import IGNORE_INDEX

if TYPE_CHECKING:
    import torch

    from ftl_config import Config

Collator: TypeAlias = Callable[[Sequence[Mapping[str, Any]]], "dict[str, torch.Tensor]"]
_Rows: TypeAlias = list[npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Layout:
    """What a model needs of rows that hold several sequences, and whether unpacked rows are made such rows."""

    one_row: bool = False
    """Rows are joined to one: FlashAttention isolates sequences within one row only."""
    sequence_numbers: bool = False
    """``seq_idx`` too, for models with convolutions: the number of each token's sequence in its row."""
    flatten: bool = False
    """Unpacked rows are joined to one row without padding (``batch_flattening``)."""
    block_mask: bool = False
    """An attention mask that shows each token its own sequence: (rows, 1, length, length), which takes memory."""


def make_collator(config: Config, tokenizer: Any, *, packed: bool, layout: Layout | None = None) -> Collator:
    """The collator for rows of ``prepare``; rows of the other kind (evaluation) are told by their columns.

    A batch has input_ids, labels and num_tokens (tokens of each row without padding; not for the model). Packed, it
    has position_ids, and seq_idx where the layout asks for it; otherwise attention_mask. Shapes are (rows, length),
    or (1, rows x length) where rows are joined.
    """
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    data = config.data
    pad_fully = data.pad_to_sequence_len if data.pad_to_sequence_len is not None else packed
    length = max(data.sequence_len, data.eval_sequence_len or 0) if pad_fully else None
    joined = PackedCollator(pad_id, length, data.pad_to_multiple_of, layout=layout)
    if packed:
        return joined
    return PaddedCollator(pad_id, length, data.pad_to_multiple_of, joined=joined)


class PaddedCollator:
    """One row a sequence, padded at the right to the longest, to ``length``, or to a multiple.

    Rows that are packed already (evaluation beside unpacked training), and all rows with ``batch_flattening``, go
    through ``joined``.
    """

    def __init__(
        self, pad_id: int, length: int | None = None, multiple: int | None = None, *, joined: PackedCollator
    ) -> None:
        self.pad_id, self.length, self.multiple, self.joined = pad_id, length, multiple, joined

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        if self.joined.layout.flatten or any(row.get("position_ids") is not None for row in rows):
            return self.joined(rows)
        ids, labels = _column(rows, "input_ids"), _column(rows, "labels")
        sizes = np.array([len(row) for row in ids])
        width = _padded_width(ids, self.length, self.multiple)
        mask = np.arange(width)[None, :] < sizes[:, None]
        return {
            "input_ids": _stack(ids, width, self.pad_id),
            "labels": _stack(labels, width, IGNORE_INDEX),
            "attention_mask": _tensor(mask.astype(np.int64)),
            "num_tokens": _tensor(sizes),
        }


class PackedCollator:
    """Rows that hold several sequences. Padding is a sequence of its own, and is not trained."""

    def __init__(
        self,
        pad_id: int,
        length: int | None = None,
        multiple: int | None = None,
        *,
        layout: Layout | None = None,
    ) -> None:
        self.pad_id, self.length, self.multiple = pad_id, length, multiple
        self.layout = layout or Layout()

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        ids, labels = _column(rows, "input_ids"), _column(rows, "labels")
        positions = [_positions(row) for row in rows]
        for row_labels, row_positions in zip(labels, positions, strict=True):
            row_labels[row_positions == 0] = IGNORE_INDEX  # else the sequence before would be trained to predict it
        length = self.length
        if self.layout.one_row or self.layout.flatten:
            length = length * len(rows) if length else None
            ids, labels, positions = ([np.concatenate(part)] for part in (ids, labels, positions))
        width = _padded_width(ids, length, self.multiple)
        padded = [np.concatenate([row, np.arange(width - len(row))]) for row in positions]
        batch = {
            "input_ids": _stack(ids, width, self.pad_id),
            "labels": _stack(labels, width, IGNORE_INDEX),
            "position_ids": _stack(padded, width, 0),
            "num_tokens": _tensor(np.array([len(row) for row in ids])),
        }
        numbers = np.cumsum(np.stack(padded) == 0, axis=1) - 1
        if self.layout.sequence_numbers:
            batch["seq_idx"] = _tensor(numbers.astype(np.int32))
        if self.layout.block_mask:
            batch["attention_mask"] = _tensor(_block_mask(numbers))
        return batch


def _block_mask(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """0 where a token may look, the lowest number elsewhere; added to attention scores by every implementation."""
    width = numbers.shape[1]
    seen = (numbers[:, :, None] == numbers[:, None, :]) & np.tri(width, dtype=bool)
    return np.where(seen, np.float32(0), np.finfo(np.float32).min)[:, None]


def _positions(row: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    if row.get("position_ids") is not None:
        return np.array(row["position_ids"], dtype=np.int64)
    return np.arange(len(row["input_ids"]), dtype=np.int64)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> _Rows:
    return [np.array(row[name], dtype=np.int64) for row in rows]


def _padded_width(rows: _Rows, length: int | None, multiple: int | None) -> int:
    width = max(max(map(len, rows)), length or 0)
    return -(-width // multiple) * multiple if multiple else width


def _stack(rows: _Rows, width: int, fill: int) -> torch.Tensor:
    table = np.full((len(rows), width), fill, dtype=np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return _tensor(table)


def _tensor(table: npt.NDArray[Any]) -> torch.Tensor:
    import torch

    return torch.from_numpy(table)
