"""Limits of hours and dollars, and what runs cost: above a backend in memory that offers machines at a price."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from ftl_config.errors import FtlError
from ftl_launcher import cli
from ftl_launcher.backends.protocol import BackendState, Offer
from ftl_launcher.cost import cost_so_far, hours_so_far
from ftl_launcher.limits import limit_text, with_limit
from ftl_launcher.records import RunStore
from ftl_launcher.states import RunState
from tests.unit.launcher.fake_backend import STEPS, FakeBackend, event, installed
from tests.unit.launcher.plans import plan_of, record_of


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    fake = installed(monkeypatch)
    fake.offered = Offer("AWS (us-east-1)", 4.0)
    return fake


@pytest.mark.parametrize(
    ("flags", "price", "hours"),
    [
        ([], 4.0, None),
        (["--launch.max_hours=3"], 4.0, "3"),
        (["--launch.max_cost=10"], 4.0, "2.5"),
        (["--launch.max_cost=10", "--launch.max_hours=2"], 4.0, "2"),
        (["--launch.max_cost=10", "--launch.max_hours=20"], 4.0, "2.5"),
        (["--launch.max_hours=2"], None, "2"),
    ],
)
def test_the_lower_limit_counts(flags: list[str], price: float | None, hours: str | None) -> None:
    assert with_limit(plan_of(*flags), Offer("AWS", price)).env.get("FTL_MAX_HOURS") == hours


def test_dollars_need_a_price() -> None:
    with pytest.raises(FtlError, match="no price is known for a cluster") as caught:
        with_limit(plan_of("--launch.max_cost=10"), Offer("a cluster", None))
    assert "--max-hours" in (caught.value.hint or "")


def test_a_new_limit_takes_the_place_of_the_old() -> None:
    plan = with_limit(plan_of("--launch.max_hours=3"))
    assert limit_text(plan) == "at most 3 hours"
    assert with_limit(plan).env == plan.env


def test_the_limit_reaches_the_run_and_the_price_the_record(
    backend: FakeBackend, config_file: Path, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["launch", str(config_file), "--name", "one", "--max-cost", "10", "--yes", "-d"]) == 0
    assert backend.submitted[0].plan.env["FTL_MAX_HOURS"] == "2.5"
    assert "$4.00 an hour, at most 2.5 hours" in capsys.readouterr().err
    assert store.get("one").hourly_cost == 4.0


def test_stopped_at_its_limit_and_resumed_with_a_higher_one(
    backend: FakeBackend, config_file: Path, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.lines = [*STEPS, event("end", status="stopped", exit_code=21)]
    backend.answer = BackendState(RunState.FAILED, exit_code=21, started_at=1000.0, ended_at=1000.0 + 3600)
    assert cli.run(["launch", str(config_file), "--name", "one", "--max-hours", "1", "--yes"]) == 21
    assert store.get("one").state is RunState.STOPPED
    assert cli.run(["resume", "one", "--yes"]) == 2
    assert "--max-hours or --max-cost" in capsys.readouterr().err
    assert cli.run(["resume", "one", "--yes", "--max-hours", "3", "-d"]) == 0
    assert backend.submitted[-1].plan.env["FTL_MAX_HOURS"] == "3"
    assert store.get("one").spent == pytest.approx(4.0)


def test_cost_counts_from_the_start_on_the_machines_over_all_launches() -> None:
    record = record_of(plan_of(), hourly_cost=4.0, spent=1.0, started_at=1000.0, state=RunState.RUNNING)
    assert hours_so_far(record, 1000.0 + 1800) == 0.5
    assert cost_so_far(record, 1000.0 + 1800) == pytest.approx(3.0)
    ended = record_of(plan_of(), hourly_cost=4.0, started_at=0.0, ended_at=3600.0, state=RunState.SUCCEEDED)
    assert cost_so_far(ended, 9e9) == pytest.approx(4.0)
    waiting = record_of(plan_of(), hourly_cost=4.0, state=RunState.PENDING)
    assert cost_so_far(waiting, 9e9) == 0.0
    assert cost_so_far(record_of(plan_of()), 9e9) is None


def test_ftl_cost_lists_what_was_rented(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    ended = {"started_at": 0.0, "ended_at": 3600.0, "state": RunState.SUCCEEDED}
    store.create(record_of(plan_of(name="here"), **ended))
    store.create(record_of(plan_of(name="cheap"), hourly_cost=1.5, **ended))
    store.create(record_of(plan_of(name="dear"), hourly_cost=20.0, spent=2.25, **ended))
    assert cli.run(["cost", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["run"]: row["cost"] for row in told["runs"]} == {"cheap": 1.5, "dear": 22.25}
    assert told["total"] == 23.75
    assert cli.run(["cost"]) == 0
    assert "$23.75" in capsys.readouterr().out


def test_records_of_the_first_version_are_brought_up_to_date(store: RunStore) -> None:
    store.create(record_of(plan_of()))
    db = sqlite3.connect(store.path)
    db.executescript("ALTER TABLE runs DROP COLUMN hourly_cost; ALTER TABLE runs DROP COLUMN spent;")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    assert store.get("run-1").hourly_cost is None
    store.update("run-1", hourly_cost=2.0)
    assert store.get("run-1").hourly_cost == 2.0
