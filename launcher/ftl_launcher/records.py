"""Durable records of runs: one SQLite file, safe for two terminals at once.

A record is written before anything is submitted, so that a launcher killed at any moment leaves a trace of what it
may have started. Records hold no credentials: configs and plans carry names of secrets only.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ftl_config.errors import FtlError
from ftl_launcher.states import RunState, can_move

# ruff: noqa: S608 - column names in queries are literals of this module; every value is a parameter

SCHEMA_VERSION = 2
_BUSY_TIMEOUT_S = 10.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
  name TEXT PRIMARY KEY,
  id TEXT NOT NULL,
  backend TEXT NOT NULL,
  handle TEXT NOT NULL,
  state TEXT NOT NULL,
  launch_number INTEGER NOT NULL,
  submitter TEXT,
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  config_digest TEXT NOT NULL,
  config_yaml TEXT NOT NULL,
  plan TEXT NOT NULL,
  checkpoint_uri TEXT NOT NULL,
  created_at REAL NOT NULL,
  submitted_at REAL,
  started_at REAL,
  ended_at REAL,
  exit_code INTEGER,
  error TEXT,
  hourly_cost REAL,
  spent REAL NOT NULL DEFAULT 0,
  metrics TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS runs_created ON runs (created_at DESC);
"""

_SINCE_VERSION_1 = (
    "ALTER TABLE runs ADD COLUMN hourly_cost REAL; ALTER TABLE runs ADD COLUMN spent REAL NOT NULL DEFAULT 0;"
)


@dataclass(frozen=True)
class RunRecord:
    """What is remembered of one run. Times are seconds since the epoch."""

    name: str
    id: str
    backend: str
    handle: str
    """Where it runs, as a URL; known before submission, so that a killed launcher can be picked up again."""
    state: RunState
    launch_number: int
    """1 for `ftl launch`, one more at each `ftl resume`."""
    submitter: str | None
    """``pid:start_ticks`` of the launcher process that is submitting; None once the backend has answered."""
    cancel_requested: bool
    config_digest: str
    config_yaml: str
    plan: str
    checkpoint_uri: str
    created_at: float
    submitted_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    error: str | None = None
    hourly_cost: float | None = None
    """Dollars an hour for all nodes, as offered at the launch; None where nothing is rented or no price is known."""
    spent: float = 0.0
    """Dollars that the launches before this one took."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Progress folded from the event stream; see progress.py."""

    def to_json(self) -> dict[str, Any]:
        """For ``--json``: everything but the full texts of config and plan."""
        skipped = {"config_yaml", "plan", "submitter"}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in skipped}


_COLUMNS = tuple(f.name for f in fields(RunRecord))


class RunStore:
    """The records file. Every method opens, commits and closes: nothing is held between calls."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, record: RunRecord) -> None:
        """Insert a new run.

        Raises:
            FtlError: a run of that name exists already, perhaps made a moment ago by another terminal.
        """
        marks = ", ".join("?" * len(_COLUMNS))
        try:
            with self._connection() as db:
                db.execute(f"INSERT INTO runs ({', '.join(_COLUMNS)}) VALUES ({marks})", _to_row(record))
        except sqlite3.IntegrityError:
            raise FtlError(
                f"a run named {record.name!r} exists already",
                hint=f"`ftl resume {record.name}` goes on with it; another --name starts a new one",
            ) from None

    def get(self, name: str) -> RunRecord:
        """The run of that name.

        Raises:
            FtlError: there is none; the hint names close matches.
        """
        with self._connection(write=False) as db:
            row = db.execute(f"SELECT {', '.join(_COLUMNS)} FROM runs WHERE name = ?", (name,)).fetchone()
            if row is not None:
                return _from_row(row)
            names = [found for (found,) in db.execute("SELECT name FROM runs ORDER BY created_at DESC LIMIT 1000")]
        raise FtlError(f"no run named {name!r}", hint=_close_match(name, names))

    def list(self, *, live_only: bool = False, limit: int | None = None) -> list[RunRecord]:
        """Runs, newest first."""
        live = [str(state) for state in RunState if not state.is_terminal]
        where = f"WHERE state IN ({', '.join('?' * len(live))})" if live_only else ""
        query = f"SELECT {', '.join(_COLUMNS)} FROM runs {where} ORDER BY created_at DESC LIMIT ?"
        with self._connection(write=False) as db:
            rows = db.execute(query, [*(live if live_only else []), -1 if limit is None else limit])
            return [_from_row(row) for row in rows]

    def claim_for_resume(
        self,
        name: str,
        *,
        submitter: str,
        handle: str,
        plan: str,
        launch_number: int,
        hourly_cost: float | None = None,
        spent: float = 0.0,
    ) -> None:
        """Move a finished run back to SUBMITTING, in one statement: of two terminals one wins.

        Raises:
            FtlError: the run is live, succeeded, or was claimed by someone else meanwhile.
        """
        allowed = [str(state) for state in RunState if state.can_resume]
        changes = (
            "state = ?, submitter = ?, handle = ?, plan = ?, launch_number = ?, hourly_cost = ?, spent = ?, "
            "cancel_requested = 0, "
            "submitted_at = NULL, started_at = NULL, ended_at = NULL, exit_code = NULL, error = NULL, metrics = '{}'"
        )
        condition = f"name = ? AND launch_number = ? AND state IN ({', '.join('?' * len(allowed))})"
        new = (str(RunState.SUBMITTING), submitter, handle, plan, launch_number, hourly_cost, spent)
        with self._connection() as db:
            cursor = db.execute(
                f"UPDATE runs SET {changes} WHERE {condition}", (*new, name, launch_number - 1, *allowed)
            )
            if cursor.rowcount == 1:
                return
        state = self.get(name).state
        raise FtlError(f"run {name!r} cannot be resumed: it is {state}", hint=f"see `ftl status {name}`")

    def update(self, name: str, *, state: RunState | None = None, **changes: Any) -> RunRecord:
        """Change columns of a run; a state change that `can_move` forbids is left out (the newer knowledge wins)."""
        if "metrics" in changes:
            changes["metrics"] = json.dumps(changes["metrics"])
        with self._connection() as db:
            old = db.execute("SELECT state FROM runs WHERE name = ?", (name,)).fetchone()
            if old is not None and state is not None and can_move(RunState(old[0]), state):
                changes["state"] = str(state)
            if changes:
                assignments = ", ".join(f"{column} = ?" for column in changes)
                db.execute(f"UPDATE runs SET {assignments} WHERE name = ?", (*changes.values(), name))
        return self.get(name)

    def delete(self, name: str) -> None:
        with self._connection() as db:
            db.execute("DELETE FROM runs WHERE name = ?", (name,))

    @contextmanager
    def _connection(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction on the file, which is created (mode 0600) at first use. Writers take their lock at once."""
        try:
            db = self._open()
        except (OSError, sqlite3.Error) as error:
            raise FtlError(
                f"cannot open the run records {self.path}: {error}", hint="set FTL_HOME to a writable folder"
            ) from error
        try:
            db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            yield db
            db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise FtlError(
                f"the run records {self.path} cannot be used: {error}",
                hint="is the disk full, or another ftl stuck in the middle of a write?",
            ) from error
        finally:
            db.close()

    def _open(self) -> sqlite3.Connection:
        new = not self.path.exists()
        if new:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            db.close()
            raise FtlError(
                f"the run records {self.path} were written by a newer ftl (schema {version}, this one knows "
                f"{SCHEMA_VERSION})",
                hint="upgrade ftl-tune, or set FTL_HOME to another folder",
            )
        if version < SCHEMA_VERSION:
            _create_tables(db)
        db.execute("PRAGMA synchronous = FULL")
        return db


def _create_tables(db: sqlite3.Connection) -> None:
    """Set the file up. Switching to WAL does not wait for others as everything else does: so wait here.

    Raises:
        sqlite3.OperationalError: others kept the file locked all the time.
    """
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            _upgrade(db)
            return
        except sqlite3.OperationalError:
            if db.in_transaction:
                db.rollback()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _upgrade(db: sqlite3.Connection) -> None:
    """In one transaction; another process may have done it meanwhile."""
    db.execute("BEGIN IMMEDIATE")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    statements = {0: _SCHEMA, 1: _SINCE_VERSION_1}.get(version, "")
    for statement in filter(str.strip, statements.split(";")):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")


def new_record(
    *,
    name: str,
    backend: str,
    handle: str,
    config_digest: str,
    config_yaml: str,
    plan: str,
    checkpoint_uri: str,
    submitter: str,
    launch_number: int = 1,
    hourly_cost: float | None = None,
) -> RunRecord:
    """A record as it stands right before the first submission."""
    return RunRecord(
        name=name,
        id=uuid.uuid4().hex,
        backend=backend,
        handle=handle,
        state=RunState.SUBMITTING,
        launch_number=launch_number,
        submitter=submitter,
        cancel_requested=False,
        config_digest=config_digest,
        config_yaml=config_yaml,
        plan=plan,
        checkpoint_uri=checkpoint_uri,
        created_at=time.time(),
        hourly_cost=hourly_cost,
    )


def _to_row(record: RunRecord) -> tuple[Any, ...]:
    values = {column: getattr(record, column) for column in _COLUMNS}
    values["state"] = str(record.state)
    values["metrics"] = json.dumps(dict(record.metrics))
    values["cancel_requested"] = int(record.cancel_requested)
    return tuple(values[column] for column in _COLUMNS)


def _from_row(row: tuple[Any, ...]) -> RunRecord:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["state"] = RunState(values["state"])
    values["metrics"] = json.loads(values["metrics"])
    values["cancel_requested"] = bool(values["cancel_requested"])
    return RunRecord(**values)


def _close_match(name: str, names: list[str]) -> str:
    import difflib

    matches = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {', '.join(matches)}?" if matches else "`ftl runs` lists all of them"
