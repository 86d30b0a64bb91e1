"""Small configs that tests build on."""

from __future__ import annotations

from ftl_config import ConfigError, LoadedConfig, Problem, load_text

BASE = """\
base_model: some/model
datasets:
  - path: data.jsonl
    type: chat_template
learning_rate: 1e-4
micro_batch_size: 1
gradient_accumulation_steps: 1
"""
"""A complete config with nothing in it that a test could be about."""


def load(text: str, *overrides: str, partial: bool = True, allow_unknown: bool = False) -> LoadedConfig:
    return load_text(text, overrides, partial=partial, allow_unknown=allow_unknown)


def problems_of(text: str, *overrides: str, partial: bool = True, statuses: bool = True) -> list[Problem]:
    """Everything that is said about a config, warnings too."""
    try:
        return list(load_text(text, overrides, partial=partial, statuses=statuses).warnings)
    except ConfigError as error:
        return list(error.problems)


def errors_of(text: str, *overrides: str, partial: bool = True, statuses: bool = True) -> list[Problem]:
    found = problems_of(text, *overrides, partial=partial, statuses=statuses)
    return [problem for problem in found if problem.severity == "error"]
