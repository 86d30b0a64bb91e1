"""Questions about a given text."""

from __future__ import annotations

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.formats.alpaca import STYLES, make_segments
from ftl_runner.data.formats.registry import Format
from ftl_runner.data.messages import Segments
from ftl_runner.data.rows import Row, require_text

_HEAD = "Use the following contextual information to concisely answer the question.\n\n"
_NO_ANSWER = "The context does not provide an answer to that question."


def _prompt(row: Row, context: str) -> str:
    instruction = f"{_HEAD}{require_text(row, context)}\n===\n{require_text(row, 'question')}"
    return STYLES["chat"].write(instruction, system="")


def context_qa(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """context (or, in old sets, article), question, answer."""

    def convert(row: Row) -> Segments:
        context = "article" if variant != "v2" and "article" in row and "context" not in row else "context"
        answer = require_text(row, spec.field_output or "answer")
        return make_segments(_prompt(row, context), answer)

    return convert


def unanswerable(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """context, question: the answer says that the context holds none."""

    def convert(row: Row) -> Segments:
        return make_segments(_prompt(row, "context"), _NO_ANSWER)

    return convert
