"""Rows that are token ids already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.errors import RowError
from ftl_runner.data.formats.registry import Format
from ftl_runner.data.messages import TokenRow
from ftl_runner.data.rows import Row, as_list, require


def pretokenized(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """input_ids and labels of one length; without labels every token is trained. attention_mask is checked only."""

    def convert(row: Row) -> TokenRow:
        if "input_ids" not in row:
            raise RowError(
                f"no field 'input_ids' (fields: {', '.join(map(str, row))})",
                "a dataset without type: holds tokens; set type: to the format of its rows, such as chat_template",
            )
        ids = _integers(require(row, "input_ids"), "input_ids")
        labels = _integers(row["labels"], "labels") if row.get("labels") is not None else ids
        mask = row.get("attention_mask")
        for name, other in (("labels", labels), ("attention_mask", mask)):
            if other is not None and len(other) != len(ids):
                raise RowError(f"input_ids has {len(ids)} entries and {name} has {len(other)}")
        if any(number < 0 for number in ids):
            raise RowError("input_ids holds a negative number")
        return TokenRow(ids, labels)

    return convert


def _integers(value: Any, name: str) -> tuple[int, ...]:
    values: Sequence[Any] = as_list(value, f"field {name!r}")
    if not all(isinstance(item, int) for item in values):
        raise RowError(f"field {name!r} is not a list of whole numbers")
    return tuple(values)
