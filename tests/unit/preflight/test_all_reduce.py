"""The all-reduce over ranks that are there, hang, or add up wrongly."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch
import torch.distributed

from ftl_config.preflight import Outcome
from ftl_runner.distributed.ranks import Ranks
from ftl_runner.preflight.all_reduce import Measured, judge, measure, within


def two_ranks(trouble: str) -> str:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command += ["tests.unit.preflight.ranks", trouble]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
def test_two_ranks_pass() -> None:
    output = two_ranks("none")
    assert output.count('"passed":["all-reduce (') == 2
    assert "over 2 workers" in output
    assert "ERROR" not in output


@pytest.mark.slow
def test_a_rank_that_hangs_ends_the_run_on_all_of_them() -> None:
    output = two_ranks("hang")
    for rank in (0, 1):
        assert f"rank {rank}: ERROR 1 preflight: not fit to train" in output
    assert "(rank 1): all-reduce: no answer within 4 s" in output


def test_a_wrong_sum_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As GPUs give it whose peer access is broken: the call returns, and nothing has been added."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: None)
    with pytest.raises(ValueError, match="the sum over 2 ranks came out as 1 to 1"):
        measure(Ranks(0, 0, 2), torch.device("cpu"))


def test_a_function_that_never_returns_is_left_behind() -> None:
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
        within(lambda: time.sleep(30), 0.1)
    assert within(lambda: 7, 5) == 7
    with pytest.raises(ZeroDivisionError):
        within(lambda: 1 / 0, 5)


@pytest.mark.parametrize(
    ("device", "hosts", "speed", "outcome"),
    [
        ("cpu", ("a", "a"), 0.3, Outcome.PASSED),
        ("cpu", ("a", "b"), 0.001, Outcome.WARNING),
        ("cuda", ("a", "a"), 300.0, Outcome.PASSED),
        ("cuda", ("a", "a"), 0.9, Outcome.WARNING),
        ("cuda", ("a", "b"), 0.9, Outcome.PASSED),
        ("cuda", ("a", "b"), 0.1, Outcome.WARNING),
    ],
)
def test_slow_is_a_warning(device: str, hosts: tuple[str, ...], speed: float, outcome: Outcome) -> None:
    findings = judge([Measured(hosts[0], 1000.0), Measured(hosts[1], speed)], device)
    assert {finding.outcome for finding in findings} == {outcome}
    assert all(f"{speed:.2g} GB/s over 2 workers" in finding.found for finding in findings)


def test_ranks_with_trouble_are_named() -> None:
    findings = judge([Measured("a", 1.0), Measured("b", problem="NCCL error: unhandled system error")], "cuda")
    assert [finding.node for finding in findings] == ["b (rank 1)"]
    assert findings[0].outcome is Outcome.FAILED
    assert "NCCL_DEBUG=INFO" in findings[0].fix
