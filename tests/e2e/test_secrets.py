"""A secret that the user's own code prints, and puts into an error, is in no file and no stream of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ftl_cli import Ftl, write_config

pytestmark = pytest.mark.slow

SECRET = "planted-7Qx-0f93kQz"
CODE = """\
import os
import sys

def speak(row):
    print("stdout says", os.environ["HF_TOKEN"])
    sys.stderr.write("stderr says " + os.environ["HF_TOKEN"] + "\\n")
    if os.environ.get("LEAK") == "error":
        raise RuntimeError("cannot reach https://" + os.environ["HF_TOKEN"] + "@hub")
    return row
"""


@pytest.mark.parametrize("leak", ["print", "error"])
def test_planted_secret_is_found_nowhere(
    ftl: Ftl, tiny_config: dict[str, Any], tmp_path: Path, leak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaky.py").write_text(CODE)
    (tmp_path / ".env").write_text(f"HF_TOKEN={SECRET}\n")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    [dataset] = tiny_config["datasets"]
    settings = {**tiny_config, "datasets": [{**dataset, "input_transform": "leaky.speak"}], "max_steps": 2}
    path = write_config(tmp_path / "config.yml", {**settings, "save_steps": 2})
    result = ftl.run("launch", str(path), "--name", "leaky", "--env", f"LEAK={leak}", check=False)
    assert (result.returncode == 0) == (leak == "print"), result.stdout + result.stderr
    raw, shown = (ftl.run("logs", "leaky", *flags).stdout for flags in (("--raw",), ()))
    assert "stdout says ***" in raw
    if leak == "error":
        assert "https://***@hub" in result.stdout + result.stderr

    streams = {"launch": result.stdout + result.stderr, "raw": raw, "logs": shown}
    assert [name for name, text in streams.items() if SECRET in text] == []
    (tmp_path / ".env").unlink()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
