"""Where the launcher keeps its state. Computed on access, so that tests and users can redirect it with FTL_HOME."""

from __future__ import annotations

import os
from pathlib import Path


def state_dir() -> Path:
    """``$FTL_HOME``, else ``$XDG_STATE_HOME/ftl``, else ``~/.local/state/ftl``. Not created here."""
    if home := os.environ.get("FTL_HOME"):
        return Path(home).expanduser().absolute()
    if xdg := os.environ.get("XDG_STATE_HOME"):
        return Path(xdg) / "ftl"
    return Path.home() / ".local" / "state" / "ftl"


def records_file() -> Path:
    """The SQLite file of all runs."""
    return state_dir() / "runs.sqlite3"


class RunDir:
    """The files that a run leaves on this machine: ``<state>/runs/<name>/``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = self.path / "config.yml"
        self.plan = self.path / "plan.json"
        self.driver_log = self.path / "driver.log"
        """Log of the newest launch: a link into Ray's session while it runs, a plain file afterwards."""
        self.workdir = self.path / "workdir"
        """What of the workdir was sent, where ftl chose it."""
        self.head = self.path / "head.json"
        self.head_log = self.path / "head.log"
        self.result = self.path / "result.json"

    @classmethod
    def of(cls, name: str) -> RunDir:
        return cls(state_dir() / "runs" / name)

    def create(self) -> RunDir:
        """Make the directory, readable by this user only: logs may quote training data."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self

    def token(self, launch_number: int) -> Path:
        """The embedded Ray's token. One a launch: the Ray of the launch before may still be going down."""
        return self.path / f"ray-token-{launch_number}"

    def log_of(self, launch_number: int) -> Path:
        """Where the log of an earlier launch of the same run is kept."""
        return self.path / f"driver.{launch_number}.log"
