"""The interpreter that has the runner, which need not be the one that runs ftl."""

from __future__ import annotations

import importlib.util
import os
import sys

from ftl_config.errors import FtlError

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
