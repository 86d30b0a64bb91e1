"""Many turns against few: processor seconds a token of preparing conversations of 80 messages and of 4."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from tests.benchmarks import rows
from tests.benchmarks.preprocess import ours
from tests.benchmarks.settings import FOLDER, num_runs

_TOKENS = 1_000_000


def seconds_a_million(data: Path) -> float:
    """Processor seconds of preparing a million tokens, in this process alone."""
    from ftl_config import load_config
    from ftl_runner.data import prepare
    from ftl_runner.models.tokenizer import load_tokenizer

    # chatml writes no system message of its own, which would weigh more in short conversations.
    options = ("--dataset-num-proc", "1", "--sequence-len", "32768", "--chat-template", "chatml")
    config = load_config(ours(data, "chat_template").argv[2], options).config
    tokenizer = load_tokenizer(config)
    with tempfile.TemporaryDirectory(dir=FOLDER) as root:
        began = time.process_time()
        report = prepare(config, tokenizer, cache_root=Path(root)).report
        return (time.process_time() - began) / report.tokens * 1e6


def main() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads that wait for each other would count too
    files = [
        rows.write(FOLDER / f"turns-{2 * exchanges}.jsonl", rows.long_and_short(_TOKENS, exchanges))
        for exchanges in (40, 2)
    ]
    seconds_a_million(files[0])  # imports
    pairs = [tuple(map(seconds_a_million, files)) for _ in range(num_runs(5))]
    many, few = (statistics.median(pair[index] for pair in pairs) for index in (0, 1))
    ratio = statistics.median(a / b for a, b in pairs)
    print("processor seconds a million tokens, one process")
    print(f"  80 messages {many:.3f}   4 messages {few:.3f}   ratio {ratio:.3f} (median of {len(pairs)} pairs)")


if __name__ == "__main__":
    main()
