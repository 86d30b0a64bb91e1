"""Prompts of preference rows written by formats in the config: ``prompt_format: "<user>{prompt}<bot>"``."""

from __future__ import annotations

from dataclasses import dataclass

from ftl_config.schema.data import DatasetSpec, UserDefinedType
from ftl_runner.data.formats.alpaca import fill
from ftl_runner.data.formats.preference_prompts import filled_text
from ftl_runner.data.formats.user_defined import unescape
from ftl_runner.data.rows import Row, optional_text


@dataclass(frozen=True)
class WrittenPrompt:
    """The columns and the format of a prompt; ``options`` holds the entry's other formats."""

    options: UserDefinedType
    field_prompt: str
    field_system: str
    form: str

    @classmethod
    def build(cls, spec: DatasetSpec) -> WrittenPrompt:
        """From the mapping under ``type:``, or from defaults for ``type: user_defined.default``."""
        options = spec.type if isinstance(spec.type, UserDefinedType) else UserDefinedType()
        prompt = options.field_prompt or options.field_instruction or "prompt"
        system = options.field_system or spec.field_system or "system"
        return cls(options, prompt, system, unescape(options.prompt_format or options.format or "{prompt}"))

    def write(self, row: Row) -> str:
        """The prompt of a row.

        Raises:
            RowError: the prompt's column is missing or empty.
        """
        question = filled_text(row, self.field_prompt)
        system = optional_text(row, self.field_system) or self.options.system_prompt or ""
        names = {"prompt": question, "instruction": question, self.field_prompt: question}
        return fill(self.form, **{"system": system, self.field_system: system, **names})


def fill_answer(form: str | None, name: str, column: str, text: str) -> str:
    """An answer in its format: ``{chosen}`` (or the column's own name) stands for it."""
    return fill(unescape(form), **{name: text, column: text}) if form else text
