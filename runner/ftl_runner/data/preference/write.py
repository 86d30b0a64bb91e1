"""Prepared preference examples -> Arrow files with the columns that TRL's trainers take ready-tokenized.

Columns as of TRL 1.16: ``prompt_ids``, ``chosen_ids`` and ``rejected_ids`` (DPO; ORPO and CPO are made of the same
three), ``prompt_ids``, ``completion_ids`` and ``label`` (KTO), ``chosen_ids`` and ``rejected_ids`` with the prompt in
them (reward), ``input_ids`` and ``labels`` (steps: 1 right, 0 wrong, -100 elsewhere), ``prompt`` with the columns of
the reward functions (GRPO).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftl_runner.data.assemble import Ints, Longs, TokenStore, Written
from ftl_runner.data.build import Built, Extras
from ftl_runner.data.encode import IGNORE_INDEX
from ftl_runner.data.errors import DataError
from ftl_runner.data.formats.preference_registry import Kind
from ftl_runner.data.preference.convert import BAD, GOOD

_BATCH_ROWS = 1000


def write_preference_set(kind: Kind, store: TokenStore, built: Sequence[Built], rows: Longs, path: Path) -> Written:
    """Write rows in the given order as an Arrow stream that datasets maps into memory.

    Raises:
        DataError: columns for reward functions have other types in other rows.
    """
    if kind == "task":
        _write_tasks(built, rows, path)
    else:
        make = _COLUMNS[kind]
        _write(path, _schema(kind), (make(*store.read(rows[at : at + 1])) for at in range(len(rows))))
    tokens, judged = int(store.lengths[rows].sum()), int(store.num_trained[rows].sum())
    return Written(len(rows), len(rows), tokens, judged, None, None)


def _pair(ids: Ints, marks: Ints) -> dict[str, Any]:
    return {
        "prompt_ids": ids[marks == IGNORE_INDEX],
        "chosen_ids": ids[marks == GOOD],
        "rejected_ids": ids[marks == BAD],
    }


def _reward(ids: Ints, marks: Ints) -> dict[str, Any]:
    return {"chosen_ids": ids[marks != BAD], "rejected_ids": ids[marks != GOOD]}


def _unpaired(ids: Ints, marks: Ints) -> dict[str, Any]:
    answer = marks != IGNORE_INDEX
    return {"prompt_ids": ids[~answer], "completion_ids": ids[answer], "label": bool(marks[-1] == GOOD)}


def _steps(ids: Ints, marks: Ints) -> dict[str, Any]:
    return {"input_ids": ids, "labels": marks}


_COLUMNS: Mapping[Kind, Callable[[Ints, Ints], dict[str, Any]]] = {
    "pair": _pair,
    "reward": _reward,
    "unpaired": _unpaired,
    "steps": _steps,
}


def _schema(kind: Kind) -> Any:
    from datasets import Features, List, Value

    names = list(_COLUMNS[kind](np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.int32)))
    columns: dict[str, Any] = {name: List(Value("int32")) for name in names}
    if "label" in columns:
        columns["label"] = Value("bool")
    return Features(columns).arrow_schema


def _write(path: Path, schema: Any, rows: Iterator[Mapping[str, Any]]) -> None:
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        batch: list[Mapping[str, Any]] = []
        for row in rows:
            batch.append(row)
            if len(batch) >= _BATCH_ROWS:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
                batch = []
        if batch:
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))


def _write_tasks(built: Sequence[Built], rows: Longs, path: Path) -> None:
    """Two passes over the rows' JSON: the type of each column first, then the rows."""
    import pyarrow as pa

    schema = pa.schema([])
    batch: list[Any] = []
    for row in (*_tasks(built, rows), None):
        if row is not None:
            batch.append(row)
        if batch and (row is None or len(batch) >= _BATCH_ROWS):
            try:
                found = pa.Table.from_pylist(_same_names(batch)).schema
                schema = pa.unify_schemas([schema, found], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise DataError(
                    f"a column of the prompts has different types in different rows: {error}",
                    "give each column one type, for example numbers as text everywhere",
                ) from error
            batch = []
    _write(path, schema, _tasks(built, rows))


def _same_names(batch: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``from_pylist`` takes the columns of the first row: give it all of them."""
    names = dict.fromkeys(name for row in batch for name in row)
    return [{name: row.get(name) for name in names} for row in batch]


def _tasks(built: Sequence[Built], rows: Longs) -> Iterator[dict[str, Any]]:
    ends = np.cumsum([len(part.lengths) for part in built])
    opened: dict[int, Extras] = {}
    for number in rows.tolist():
        chunk = int(np.searchsorted(ends, number, side="right"))
        if chunk not in opened:
            opened[chunk] = Extras(_extras_of(built[chunk]))
        start = int(ends[chunk]) - len(built[chunk].lengths)
        row: dict[str, Any] = json.loads(opened[chunk][number - start])
        yield row


def _extras_of(part: Built) -> Path:
    assert part.extras is not None, "every prompt has its row as text"
    return part.extras
