"""How fast the CLI answers: `ftl --help` and `ftl config check` beside `axolotl --help`.

Where Axolotl is not installed (set FTL_BENCH_AXOLOTL to its executable), the peer is `python -c "import transformers"`,
the least that a CLI which imports transformers at start-up costs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.benchmarks.paired import Command, compare

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def peer() -> Command:
    axolotl = os.environ.get("FTL_BENCH_AXOLOTL")
    if axolotl:
        return Command("axolotl --help", [axolotl, "--help"])
    return Command('python -c "import transformers"', [sys.executable, "-c", "import transformers"])


def main() -> None:
    config = ROOT / "tests/axolotl_compat/seeds/lfm2-2.6b-lora.yml"
    print("ftl --help")
    compare(Command("ftl --help", [str(BIN / "ftl"), "--help"]), peer())
    print("ftl config check (the LFM2 LoRA config)")
    compare(Command("ftl config check", [str(BIN / "ftl"), "config", "check", str(config)]), peer())


if __name__ == "__main__":
    main()
