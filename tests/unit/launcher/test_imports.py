"""The launcher is instant: what heavy libraries cost is paid by the commands that need them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ftl_launcher.records import RunStore
from tests.unit.launcher.plans import plan_of, record_of

HEAVY = ("torch", "transformers", "datasets", "ray", "sky", "dstack", "boto3", "deepspeed", "numpy", "requests")

PROBE = """
import sys
from ftl_launcher.cli import run
code = run(sys.argv[2:])
loaded = [name for name in sys.argv[1].split(",") if name in sys.modules]
print("LOADED", code, loaded, file=sys.stderr)
"""


def loaded_by(*argv: str, watched: tuple[str, ...] = HEAVY) -> tuple[int, list[str], str]:
    """Exit code of a command run in a fresh interpreter, and which of the watched modules it imported."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE, ",".join(watched), *argv], capture_output=True, text=True, env=dict(os.environ)
    )
    words = result.stderr.split("LOADED ")[1].split(" ", 1)
    return int(words[0]), eval(words[1]), result.stdout


def test_help_imports_next_to_nothing() -> None:
    watched = (
        *HEAVY,
        "pydantic",
        "rich",
        "yaml",
        "jinja2",
        "sqlite3",
        "ftl_config.load",
        "ftl_launcher.commands.launch",
    )
    code, loaded, output = loaded_by("--help", watched=watched)
    assert (code, loaded) == (0, [])
    assert "launch" in output


@pytest.mark.parametrize("verb", ["check", "show"])
def test_config_commands_import_nothing_heavy(verb: str, config_file: Path) -> None:
    code, loaded, _ = loaded_by("config", verb, str(config_file), watched=(*HEAVY, "rich", "jinja2", "sqlite3"))
    assert (code, loaded) == (0, [])


def test_status_imports_nothing_heavy(store: RunStore) -> None:
    store.create(record_of(plan_of()))
    code, loaded, output = loaded_by("status", watched=(*HEAVY, "pydantic", "yaml"))
    assert (code, loaded) == (0, [])
    assert "run-1" in output


def test_render_imports_nothing_heavy(config_file: Path) -> None:
    flags = ("--cloud", "aws", "--accelerators", "H100:8", "--checkpoint", "s3://bucket/runs")
    code, loaded, output = loaded_by("render", str(config_file), *flags)
    assert (code, loaded) == (0, [])
    assert "num_nodes: 1" in output


def test_module_level_imports_of_every_module_are_light() -> None:
    """Also modules that no test above runs: none may import a heavy library at its top."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "ftl_launcher").rglob("*.py"))
        if path.name not in ("__main__.py",)
    ]
    script = f"import importlib, sys\nfor n in {names!r}: importlib.import_module(n)\n"
    script += f"print([n for n in {HEAVY!r} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


ROOT = Path(__file__).resolve().parents[3] / "launcher"
