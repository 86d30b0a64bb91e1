"""One worker's lines out of a shared log."""

from __future__ import annotations

import pytest

from ftl_config.errors import FtlError
from ftl_launcher.rank_lines import lines_of_rank
from tests.unit.launcher.fake_backend import event


def start(*workers: tuple[int, str]) -> str:
    return event(
        "train_start", workers=[{"rank": i, "pid": pid, "host": host} for i, (pid, host) in enumerate(workers)]
    )


LOG = [
    "(RayTrainWorker pid=11) early zero",
    "(RayTrainWorker pid=11, ip=10.0.0.2) early one",
    start((11, "10.0.0.1"), (11, "10.0.0.2")),
    "(TrainController pid=9) plumbing",
    "(RayTrainWorker pid=11, ip=10.0.0.2) one",
    "(RayTrainWorker pid=11) zero",
    event("step", step=1),
    "(RayTrainWorker pid=31, ip=10.0.0.2) one again",
    start((21, "10.0.0.1"), (31, "10.0.0.2")),
    "(RayTrainWorker pid=21) zero again",
]


def test_lines_of_one_rank_over_two_attempts() -> None:
    assert list(lines_of_rank(LOG, 0)) == ["early zero", "zero", "zero again"]
    assert list(lines_of_rank(LOG, 1)) == ["early one", "one", "one again"]


def test_a_rank_that_is_not_there() -> None:
    with pytest.raises(FtlError, match="no rank 2: it has 2 workers"):
        list(lines_of_rank(LOG, 2))
