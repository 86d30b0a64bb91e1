"""A rehearsal's config: what the runner makes of the real one, by a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftl_config.errors import FtlError
from ftl_config.load import load_text
from ftl_launcher.paths import state_dir
from ftl_launcher.runner_process import ask_runner

if TYPE_CHECKING:
    from ftl_config import LoadedConfig
    from ftl_launcher.plan import RunPlan


@dataclass(frozen=True)
class Replaced:
    """One key that the rehearsal has another value of; ``after`` is empty where it has none."""

    key: str
    before: str
    after: str
    why: str


@dataclass(frozen=True)
class SmallJob:
    """What is run in the real job's place. ``longer`` goes on where ``config`` ends, a step further."""

    config: LoadedConfig
    longer: LoadedConfig
    replaced: list[Replaced]
    folder: Path


def make_small_job(
    loaded: LoadedConfig, plan: RunPlan, secrets: Mapping[str, str], *, steps: int, model: str | None
) -> SmallJob:
    """Have the runner write model, rows and config; what an earlier rehearsal of that name left goes.

    Raises:
        FtlError: the runner is not here, or it says what is wrong with model, tokenizer or data.
    """
    folder = state_dir() / "rehearsals" / plan.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    options = [f"--folder={folder}", f"--steps={steps}", f"--workers={plan.num_workers}"]
    done = ask_runner("rehearsal", loaded, secrets, *options, *([f"--model={model}"] if model else []))
    if done.returncode:
        raise _error(done)
    made = json.loads(done.stdout.splitlines()[-1])
    text, name = made["config"], f"{loaded.source_name} (rehearsal)"
    longer = ["--max-steps", str(steps + 1)]
    return SmallJob(
        load_text(text, name=name),
        load_text(text, longer, name=name),
        [Replaced(**r) for r in made["replaced"]],
        folder,
    )


def _error(done: subprocess.CompletedProcess[str]) -> FtlError:
    """What the runner said, without the lines of libraries before it."""
    said = done.stderr.rpartition("error: ")[2].strip() or done.stdout.strip()
    message, _, hint = said.partition("\nhint: ")
    return FtlError(message or "the runner said nothing", hint or None, exit_code=done.returncode)
