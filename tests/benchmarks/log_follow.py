"""`ftl logs -f` beside `ray job logs --follow`, on a real Ray cluster on loopback: 100 MB of log, and a line's delay.

The delay is how much later than the job wrote a line it is shown, by the clock of this machine.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ray.job_submission import JobSubmissionClient

from ftl_launcher.records import RunStore
from ftl_launcher.states import RunState
from tests.benchmarks.paired import Command, compare
from tests.benchmarks.settings import BIN, num_runs
from tests.services.ray_cluster import TOKEN, running_cluster
from tests.unit.launcher.plans import plan_of, record_of

MEGABYTES = 100
LINE = "x" * 99
PRINT_MUCH = f"import sys; [sys.stdout.write({LINE!r} + chr(10)) for _ in range({MEGABYTES} * 10_000)]"
PRINT_TIMES = "import time; [(print('at', time.time(), flush=True), time.sleep(0.2)) for _ in range(50)]"


def main() -> None:
    with tempfile.TemporaryDirectory() as name, running_cluster() as address:
        env = {"FTL_HOME": name, "RAY_AUTH_TOKEN": TOKEN, "RAY_AUTH_MODE": "token", "PYTHONUNBUFFERED": "1"}
        client = JobSubmissionClient(address, headers={"Authorization": f"Bearer {TOKEN}"})
        submit(client, address, Path(name), "much", PRINT_MUCH)
        while not client.get_job_status("much").is_terminal():
            time.sleep(0.5)
        ours, rays = (
            [str(BIN / "ftl"), "logs", "-f", "--raw"],
            [str(BIN / "ray"), "job", "logs", "--follow", "--address", address],
        )
        print(f"a log of {MEGABYTES} MB")
        compare(
            Command("ftl logs -f --raw", [*ours, "much"], env=env),
            Command("ray job logs --follow", [*rays, "much"], env=env),
            num_runs(2),
        )
        for tool, argv in (("ftl logs -f --raw", ours), ("ray job logs --follow", rays)):
            run = f"times-{tool.split()[0]}"
            submit(client, address, Path(name), run, PRINT_TIMES)
            delays = delays_of([*argv, run], env)
            print(
                f"  {tool:<44} delay of a line: median {statistics.median(delays):.2f} s, longest {max(delays):.2f} s"
            )


def submit(client: JobSubmissionClient, address: str, home: Path, run: str, code: str) -> None:
    """The job, and the record by which ftl knows it."""
    client.submit_job(entrypoint=f'{sys.executable} -u -c "{code}"', submission_id=run)
    record = record_of(plan_of(name=run), backend="ray", handle=f"ray+{address}/{run}", state=RunState.RUNNING)
    RunStore(home / "runs.sqlite3").create(replace(record, submitter=None))


def delays_of(argv: Sequence[str], env: Mapping[str, str]) -> list[float]:
    """Seconds between the writing and the showing of each line that was written while somebody followed."""
    started = time.time()
    follower = subprocess.Popen(argv, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)
    assert follower.stdout is not None
    delays, first_shown = [], None
    for line in follower.stdout:
        if " " in line and line.split()[0] == "at":
            now = time.time()
            first_shown = first_shown or now
            if float(line.split()[1]) > first_shown:
                delays.append(now - float(line.split()[1]))
    follower.wait()
    if not delays:
        raise SystemExit(f"nothing was followed within {time.time() - started:.0f} s: {' '.join(argv)}")
    return delays


if __name__ == "__main__":
    main()
