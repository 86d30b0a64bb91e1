"""The conformance suite on this machine's Ray and on a Ray cluster.

Slurm's and the container's are beside their set-up: tests/services/test_slurm.py and tests/services/test_images.py.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftl_launcher.backends.local import _read_json
from ftl_launcher.paths import records_file
from ftl_launcher.processes import is_alive
from tests.conformance.runs import ConformingRuns, Place
from tests.services.ray_cluster import STANDIN, TOKEN, running_cluster

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]


class TestLocal(ConformingRuns):
    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
        monkeypatch.setenv("PYTHONPATH", str(STANDIN))
        yield Place({"cloud": "local"}, str(tmp_path / "checkpoints"), tmp_path)
        for head in (records_file().parent / "runs").glob("*/head.json"):
            tag = _read_json(head).get("watchdog")
            if is_alive(tag):
                os.kill(int(tag.split(":")[0]), signal.SIGTERM)


class TestRayCluster(ConformingRuns):
    @pytest.fixture(scope="class")
    def cluster(self) -> Iterator[str]:
        with running_cluster() as address:
            yield address

    @pytest.fixture
    def place(self, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
        return Place({"ray-address": cluster}, str(tmp_path / "checkpoints"), tmp_path)
