"""Keep the libraries' chatter out of a run's log: what a user can act on is said by our own events."""

from __future__ import annotations

import logging
import os
import shutil
import warnings

_NOISY = (
    "DeepSpeed",
    "botocore",
    "aiobotocore",
    "urllib3",
    "filelock",
    "bitsandbytes",
    "ray.data",
    "torch.utils._pytree",
)


def quiet_libraries() -> None:
    """Errors only from noisy libraries; call it before they are imported, in every worker."""
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if shutil.which("nvidia-smi") is None and shutil.which("rocm-smi") is None:
        # DeepSpeed looks for an accelerator by trial, and warns on a machine that has none.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
