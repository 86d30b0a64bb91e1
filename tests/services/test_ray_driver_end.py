"""How the driver of a Ray run ends: with its own exit code, and with nothing left behind."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from tests.e2e.ftl_cli import wait_for

pytestmark = [pytest.mark.service, pytest.mark.slow]

BUSY_DRIVER = """
import time
import ray
from ftl_runner import ray_train

ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20)

@ray.remote
class Controller:
    def answer(self):
        return True

actor = Controller.remote()
ray.get(actor.answer.remote())

class Fit(ray_train._FitThread):
    def run(self):
        while True:  # as fit() does: one call to its controller after the other
            ray.get(actor.answer.remote())

thread = Fit(None, None, None)
thread.start()
time.sleep(1)
print("SESSION", ray._private.worker._global_node.get_session_dir_path(), flush=True)
ray_train.end_driver(7)
"""


def test_a_driver_keeps_its_exit_code_while_ray_train_is_still_busy() -> None:
    result = subprocess.run([sys.executable, "-c", BUSY_DRIVER], capture_output=True, text=True, timeout=300)
    assert result.returncode == 7, result.stderr
    session = next(line.split()[1] for line in result.stdout.splitlines() if line.startswith("SESSION"))
    wait_for(lambda: not _processes_of(session), f"the end of every process of {session}", timeout_s=120)


def _processes_of(session: str) -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(session in argument for argument in process.info["cmdline"] or ()):
            found.append(process.pid)
    return found
