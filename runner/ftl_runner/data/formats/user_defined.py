"""A prompt format written out in the config: ``type: {field_instruction: ..., format: ...}``."""

from __future__ import annotations

from ftl_config.schema.data import DataSection, DatasetSpec, UserDefinedType
from ftl_runner.data.formats.alpaca import PromptStyle, make_segments
from ftl_runner.data.formats.registry import Format
from ftl_runner.data.messages import Segments
from ftl_runner.data.rows import Row, optional_text, require_text


def user_defined(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """The columns and the layout that the config gives; ``\\n`` written out means a line break."""
    given = spec.type
    assert isinstance(given, UserDefinedType)
    form = unescape(given.format or "{instruction} {input} ")
    style = PromptStyle(
        with_input=form,
        without_input=unescape(given.no_input_format or form),
        system_format=unescape(given.system_format or "{system}"),
        system=unescape(given.system_prompt or ""),
        system_without_input=unescape(given.system_prompt or ""),
    )
    field_instruction = given.field_instruction or "instruction"
    field_input = given.field_input or "input"
    field_output = given.field_output or "output"

    def convert(row: Row) -> Segments:
        system = optional_text(row, given.field_system or "system") or None
        prompt = style.write(require_text(row, field_instruction), optional_text(row, field_input), system)
        return make_segments(prompt, require_text(row, field_output))

    return convert


def unescape(text: str) -> str:
    """Unquoted YAML keeps a backslash and an n; users mean a line break."""
    return text.replace("\\n", "\n").replace("\\t", "\t")
