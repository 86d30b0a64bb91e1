"""Run every benchmark, or those named: `python -m tests.benchmarks [cli_start preprocess ...]`."""

from __future__ import annotations

import importlib
import os
import sys

BENCHMARKS = (
    "cli_start",
    "runner_overhead",
    "preprocess",
    "tokenizing",
    "turns",
    "memory_growth",
    "memory_estimate",
    "train_speed",
    "launch_speed",
    "many_runs",
    "log_follow",
)


for name in sys.argv[1:] or BENCHMARKS:
    importlib.import_module(f"tests.benchmarks.{name}").main()
    print(f"  (load at the end: {os.getloadavg()[0]:.1f})")
