"""`ftl status`, `ftl runs` and `ftl queue` with a thousand runs on record against one, as whole processes.

Wanted: 0.3 s for `ftl status` of 1,000 runs.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from ftl_launcher.records import RunStore
from ftl_launcher.states import RunState
from tests.benchmarks.paired import Command, compare
from tests.benchmarks.settings import BIN, num_runs
from tests.unit.launcher.plans import plan_of, record_of

NUM_RUNS = 1000
LOSSES = [1.0] * 60


def keep_runs(home: Path, count: int) -> Path:
    """A home with that many runs that have ended, a minute apart."""
    store = RunStore(home / "runs.sqlite3")
    template = record_of(plan_of(), state=RunState.SUCCEEDED, metrics={"losses": LOSSES, "step": 60, "total_steps": 60})
    now = time.time()
    for number in range(count):
        at = now - 60.0 * (count - number)
        store.create(replace(template, name=f"run-{number}", id=str(number), created_at=at))
        store.update(
            f"run-{number}", state=RunState.SUCCEEDED, ended_at=at + 50, submitter=None, metrics=template.metrics
        )
    return home


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        many, one = (keep_runs(Path(name) / str(count), count) for count in (NUM_RUNS, 1))
        for argv in (["status"], ["runs", "--json"], ["queue"]):
            command = [str(BIN / "ftl"), *argv]
            text = f"ftl {' '.join(argv)}"
            print(text)
            compare(
                Command(f"{text}, {NUM_RUNS:,} runs", command, env={**os.environ, "FTL_HOME": str(many)}),
                Command(f"{text}, one run", command, env={**os.environ, "FTL_HOME": str(one)}),
                num_runs(5),
            )


if __name__ == "__main__":
    main()
