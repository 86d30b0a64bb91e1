"""The interpreter that has the runner, which need not be the one that runs ftl."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ftl_config.errors import FtlError

if TYPE_CHECKING:
    from ftl_config import LoadedConfig

PYTHON_VARIABLE = "FTL_RUNNER_PYTHON"


def runner_python() -> str:
    """``$FTL_RUNNER_PYTHON``, else this interpreter if it has torch.

    Raises:
        FtlError: neither; the hint names the extra to install.
    """
    if python := os.environ.get(PYTHON_VARIABLE):
        return python
    if importlib.util.find_spec("torch") is None:  # looks for the file, imports nothing
        raise FtlError(
            "training needs the runner, which is not installed here (no torch)",
            hint=f"pip install 'ftl-tune[runner]', or point {PYTHON_VARIABLE} at a Python that has it",
        )
    return sys.executable


def ask_runner(
    verb: str,
    loaded: LoadedConfig,
    secrets: Mapping[str, str],
    *options: str,
    cwd: str | None = None,
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """One of the runner's verbs that answer in JSON, on the last line of standard output, run to its end.

    Args:
        verb: its name.
        loaded: the config, which goes in by standard input.
        secrets: variables on top of this process's own.
        cwd: the folder that relative paths start from; this process's own where left out.
        timeout_s: seconds until `subprocess.TimeoutExpired`.

    Raises:
        FtlError: the runner is not installed here.
    """
    return subprocess.run(
        [runner_python(), "-m", "ftl_runner", verb, "-", *options],
        input=loaded.to_yaml(),
        env={**os.environ, **secrets},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
