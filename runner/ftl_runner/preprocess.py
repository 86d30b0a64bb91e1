"""``ftl preprocess``: fill the prepared-dataset cache, and say what is in it; list the types of rows."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftl_config import Config


def preprocess(config: Config, *, num_examples: int) -> None:
    """Prepare the dataset of a configuration and print its report, with ``num_examples`` rows token by token."""
    from ftl_runner.data import prepare
    from ftl_runner.data.formats.preference_registry import kind_of
    from ftl_runner.data.preference.preview import print_preferences
    from ftl_runner.data.preview import print_examples, print_report
    from ftl_runner.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(config)
    prepared = prepare(config, tokenizer, cache_root=None, on_progress=_say)
    if num_examples:
        show = print_examples if kind_of(config) is None else print_preferences
        show(prepared.train, tokenizer, num_examples)
    print_report(prepared.report)


def print_types() -> None:
    """Print every ``type:`` that a dataset may have, with a row that it reads, in the order of the registry."""
    from ftl_runner.data import list_types

    groups = list_types()
    width = max(len(name) for _, types in groups for name, _ in types)
    for number, (title, types) in enumerate(groups):
        sys.stdout.write(("\n" if number else "") + f"# {title}\n")
        for name, row in types:
            sys.stdout.write(f"{name:{width}}  {json.dumps(row, ensure_ascii=False)}\n")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
