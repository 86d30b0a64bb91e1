"""Whether the model is there and the first rows of its data tokenize under the template, asked before a launch.

The rows are tokenized by the runner, in a process of its own, where it is installed. What passed once is not looked
at again for a day, unless the config or a file has changed.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError
from ftl_launcher.backends.program import last_line
from ftl_launcher.console import waiting
from ftl_launcher.paths import state_dir
from ftl_launcher.plan import ON_THIS_MACHINE, RunPlan
from ftl_launcher.preflight import DATASET_KEYS
from ftl_launcher.runner_process import ask_runner, runner_python
from ftl_launcher.versions import ftl_version

if TYPE_CHECKING:
    from ftl_config import LoadedConfig

NUM_ROWS = 8
"""Of each dataset."""
_TIMEOUT_S = 180
_VALID_S = 24 * 3600.0


def check_model_and_rows(loaded: LoadedConfig, plan: RunPlan, secrets: Mapping[str, str]) -> str | None:
    """Whether the model is there, its tokenizer loads, and the first rows become tokens; what to warn of.

    Raises:
        FtlError: one of them is not so; bad rows have the exit code that the run would have had.
    """
    remembered = state_dir() / "checks" / _key(loaded, plan)
    if _is_fresh(remembered):
        return None
    warning = _look_at_model(loaded, plan, secrets) or _look_at_rows(loaded, plan, secrets)
    if warning is None:
        remembered.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        remembered.touch()
    return warning


def _look_at_model(loaded: LoadedConfig, plan: RunPlan, secrets: Mapping[str, str]) -> str | None:
    """Whether the hub has the model's config and gives it out. A run elsewhere may reach what this machine cannot."""
    from urllib.error import HTTPError

    from ftl_config.memory.model_config import read_model_config

    name, here = loaded.config.model.base_model or "", plan.backend in ON_THIS_MACHINE
    if not here and name.startswith(("/", "~")):
        return None  # a folder of the other machine's
    try:
        read_model_config(loaded.config, Path(plan.workdir or "."), token=secrets.get("HF_TOKEN"))
    except FtlError as error:
        cause = error.__cause__
        if isinstance(cause, HTTPError) and cause.code in (401, 403, 404):
            raise FtlError(_refusal(name, cause.code), _refusal_hint(cause.code), exit_code=2) from error
        if here:
            raise
        return f"neither the model nor the first rows were looked at: {error.message}"
    return None


def _look_at_rows(loaded: LoadedConfig, plan: RunPlan, secrets: Mapping[str, str]) -> str | None:
    try:
        runner_python()
    except FtlError as error:
        return f"the first rows were not tokenized: {error.message}"
    with waiting("tokenizing the first rows ..."):
        found = _ask(loaded, plan, secrets)
    if isinstance(found, str):
        return found
    if found["errors"]:
        first = found["errors"][0]
        raise FtlError("\n".join(each["message"] for each in found["errors"]), first["hint"], first["exit_code"])
    return "; ".join(found["warnings"]) or None


def _ask(loaded: LoadedConfig, plan: RunPlan, secrets: Mapping[str, str]) -> dict[str, Any] | str:
    """What the runner found, or why it did not look."""
    options = [f"--count={NUM_ROWS}", *([] if plan.backend in ON_THIS_MACHINE else ["--elsewhere"])]
    try:
        done = ask_runner("first-rows", loaded, secrets, *options, cwd=plan.workdir, timeout_s=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"the first rows were not tokenized within {_TIMEOUT_S} s"
    except OSError as error:
        return f"the first rows were not tokenized: {error}"
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return f"the first rows were not tokenized: {last_line(done.stderr)}"
    return found


def _refusal(name: str, code: int) -> str:
    return f"the hub has no model {name}" if code == 404 else f"the hub does not give out {name} ({code})"


def _refusal_hint(code: int) -> str:
    if code == 404:
        return "check base_model and model_revision; a private model needs HF_TOKEN"
    return "ask for access on the model's page, and set HF_TOKEN to a token of that account"


def _key(loaded: LoadedConfig, plan: RunPlan) -> str:
    facts = [ftl_version(), loaded.digest, plan.workdir, plan.backend in ON_THIS_MACHINE, sorted(_stamps(loaded, plan))]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _stamps(loaded: LoadedConfig, plan: RunPlan) -> Iterator[tuple[str, int, int]]:
    """Name, time of the last change (ns) and size of every local file of the data."""
    for key in DATASET_KEYS:
        for spec in getattr(loaded.config.data, key) or ():
            path = Path(plan.workdir or ".") / Path(spec.path or "").expanduser()
            if spec.path and "://" not in spec.path and path.exists():
                for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
                    stat = file.stat()
                    yield str(file), stat.st_mtime_ns, stat.st_size


def _is_fresh(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime < _VALID_S
    except OSError:
        return False
