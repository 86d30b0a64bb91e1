"""Run every benchmark, or those named: `python -m tests.benchmarks [cli_start runner_overhead ...]`."""

from __future__ import annotations

import importlib
import sys

BENCHMARKS = ("cli_start", "runner_overhead")

for name in sys.argv[1:] or BENCHMARKS:
    importlib.import_module(f"tests.benchmarks.{name}").main()
