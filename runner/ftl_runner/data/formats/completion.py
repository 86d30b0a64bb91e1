"""Plain text: every token is trained."""

from __future__ import annotations

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.formats.registry import Format
from ftl_runner.data.messages import Segment, Segments
from ftl_runner.data.rows import Row, require_text


def completion(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """One column of text; a text longer than ``sequence_len`` becomes several rows."""
    name = spec.field or spec.text_column or "text"

    def convert(row: Row) -> Segments:
        return Segments((Segment(require_text(row, name), True),), splittable=True)

    return convert
