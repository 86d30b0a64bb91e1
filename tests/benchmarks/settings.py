"""What the benchmarks of this folder are told through the environment.

FTL_BENCH_RUNS: pairs of runs. FTL_BENCH_FOLDER: where data and results lie (.demo/benchmarks).
FTL_BENCH_AXOLOTL, FTL_BENCH_LLAMAFACTORY, FTL_BENCH_TRL: the peers' executables (``axolotl``, ``llamafactory-cli``,
``trl``), each in an environment of its own; one that is not named is left out. docs/performance.md says how they were
installed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
FOLDER = Path(os.environ.get("FTL_BENCH_FOLDER", ROOT / ".demo/benchmarks")).absolute()
CORES = len(os.sched_getaffinity(0))
OFFLINE = {"HF_HUB_OFFLINE": "1", "AXOLOTL_DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "true"}


def num_runs(default: int) -> int:
    """Pairs of runs of a benchmark."""
    return int(os.environ.get("FTL_BENCH_RUNS", default))


def peer(name: str) -> str | None:
    """A peer's executable, when the environment names it."""
    return os.environ.get(f"FTL_BENCH_{name.upper()}") or None


def model() -> Path:
    """SmolLM2-135M-Instruct as a folder: all tools tokenize with it."""
    from ftl_runner.demo_model import write_demo_model

    folder = Path(os.environ.get("FTL_BENCH_MODEL", ROOT / ".demo/models/SmolLM2-135M-Instruct"))
    write_demo_model(folder)
    return folder.absolute()
