"""Answers that were criticised and revised (Creative ACR): three ways to learn from one row."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.errors import RowError
from ftl_runner.data.formats.alpaca import make_segments
from ftl_runner.data.formats.registry import Format
from ftl_runner.data.messages import Segments
from ftl_runner.data.rows import Row, describe, require, require_text

_ANSWER = "Answer the question below in depth, creatively, and without ambiguity."
_CRITIQUE = (
    "Criticise the answer to the question below. Score refusal, prescriptive bias, creativity and comprehensiveness "
    "from 0 to 10, and say for each what was wrong and how it could be better. Write YAML with scores and critiques."
)
_REVISE = "Revise the answer to the question below as its evaluation recommends. Reply with the revised answer only."


def answer(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """instruction, revision: the revised answer, at once."""

    def convert(row: Row) -> Segments:
        return make_segments(_prompt(_ANSWER, require_text(row, "instruction")), require_text(row, "revision"))

    return convert


def critique(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """instruction, answer, scores, critiques: the evaluation."""

    def convert(row: Row) -> Segments:
        return make_segments(_prompt(_CRITIQUE, _question(row)), _evaluation(row))

    return convert


def revise(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """instruction, answer, scores, critiques, revision: the revised answer, from the evaluation."""

    def convert(row: Row) -> Segments:
        body = f"{_question(row)}\nEvaluation:\n{_evaluation(row)}"
        return make_segments(_prompt(_REVISE, body), require_text(row, "revision"))

    return convert


def _prompt(task: str, body: str) -> str:
    return f"{task}\nUSER: {body}\nASSISTANT:"


def _question(row: Row) -> str:
    return f"Question: {require_text(row, 'instruction')}\nAnswer: {require_text(row, 'answer')}"


def _evaluation(row: Row) -> str:
    import yaml

    parts = []
    for name in ("scores", "critiques"):
        value = require(row, name)
        if not isinstance(value, Mapping):
            raise RowError(f"field {name!r} is {describe(value)}, not an object")
        plain = json.loads(json.dumps({name: value}, default=str))
        parts.append(yaml.safe_dump(plain, default_flow_style=False, allow_unicode=True))
    return "".join(parts)
