"""How fast the CLI answers: `ftl --help` and `ftl config check` beside `axolotl --help`.

Where Axolotl is not installed (set FTL_BENCH_AXOLOTL to its executable), the peer is `python -c "import transformers"`,
the least that a CLI which imports transformers at start-up costs.
"""

from __future__ import annotations

import sys

from tests.benchmarks.paired import Command, compare
from tests.benchmarks.settings import BIN, ROOT, peer


def slow_start() -> Command:
    if axolotl := peer("axolotl"):
        return Command("axolotl --help", [axolotl, "--help"])
    return Command('python -c "import transformers"', [sys.executable, "-c", "import transformers"])


def main() -> None:
    config = ROOT / "tests/axolotl_compat/seeds/lfm2-2.6b-lora.yml"
    print("ftl --help")
    compare(Command("ftl --help", [str(BIN / "ftl"), "--help"]), slow_start())
    print("ftl config check (the LFM2 LoRA config)")
    compare(Command("ftl config check", [str(BIN / "ftl"), "config", "check", str(config)]), slow_start())


if __name__ == "__main__":
    main()
