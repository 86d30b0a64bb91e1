"""Fixtures of the launcher's tests; nothing here touches a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftl_launcher.paths import records_file
from ftl_launcher.records import RunStore
from tests.unit.launcher.plans import CONFIG


@pytest.fixture
def store() -> RunStore:
    """Records in this test's own FTL_HOME."""
    return RunStore(records_file())


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``config.yml`` with a dataset beside it, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.jsonl").write_text('{"messages": []}\n')
    path = tmp_path / "config.yml"
    path.write_text(CONFIG.replace("org/chats", "./data.jsonl"))
    return path
