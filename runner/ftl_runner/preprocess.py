"""``ftl preprocess``: fill the prepared-dataset cache, and say what is in it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftl_config import Config


def preprocess(config: Config, *, num_examples: int) -> None:
    """Prepare the dataset of a configuration and print its report, with ``num_examples`` rows token by token."""
    from ftl_runner.data import prepare
    from ftl_runner.data.preview import print_examples, print_report
    from ftl_runner.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(config)
    prepared = prepare(config, tokenizer, cache_root=None, on_progress=lambda text: sys.stderr.write(text + "\n"))
    if num_examples:
        print_examples(prepared.train, tokenizer, num_examples)
    print_report(prepared.report)
