"""Template-free rows: ``segments`` with their own labels, or a plain ``input`` and ``output``."""

from __future__ import annotations

from collections.abc import Mapping

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.errors import RowError
from ftl_runner.data.formats.registry import Format
from ftl_runner.data.messages import Segment, Segments
from ftl_runner.data.rows import Row, as_list, as_text, describe, require_text


def input_output(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """Segments are taken to the letter (the row writes every special token); input/output get eos at the end.

    Which form a row has is read off the row: ``segments`` (or the field that ``field`` names) wins.
    """
    field_segments = spec.field or "segments"
    field_input, field_output = spec.field_input or "input", spec.field_output or "output"

    def convert(row: Row) -> Segments:
        if row.get(field_segments) is not None:
            parts = as_list(row[field_segments], f"field {field_segments!r}")
            return Segments(tuple(_segment(part, n) for n, part in enumerate(parts, 1)), add_bos=False, add_eos=False)
        if field_input not in row and field_output not in row:
            raise RowError(
                f"neither {field_segments!r} nor {field_input!r} and {field_output!r} (fields: {', '.join(row)})",
                "name the columns with field_input and field_output",
            )
        prompt, answer = require_text(row, field_input, allow_empty=True), require_text(row, field_output)
        return Segments((Segment(prompt, False), Segment(answer, True)))

    return convert


def _segment(part: object, number: int) -> Segment:
    if not isinstance(part, Mapping):
        raise RowError(f"segment {number} is {describe(part)}, not an object with text and label")
    label = part.get("label")
    if not isinstance(label, bool):
        raise RowError(f"label of segment {number} is {describe(label)}, not true or false")
    return Segment(as_text(part.get("text"), f"text of segment {number}"), label)
