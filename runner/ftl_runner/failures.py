"""Turn what went wrong in a run into one clear error: what happened, what was saved, what to do."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ftl_config.errors import FtlError
from ftl_runner.out_of_memory import is_out_of_memory, out_of_memory

if TYPE_CHECKING:
    from ftl_runner.context import TrainJob

_LOST_PEER = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection refused",
    "Broken pipe",
    "remote process exited",
    "NCCL communicator was aborted",
)


def explain(error: BaseException, output_dir: Path, job: TrainJob | None = None) -> FtlError:
    """The error to report. FtlErrors pass through; known faults get a remedy; the rest keeps its type and text."""
    if isinstance(error, FtlError):
        return error
    if is_disk_full(error, output_dir):
        return _disk_full(error, output_dir)
    if is_out_of_memory(error):
        return out_of_memory(error, first_line(error), job)
    return FtlError(f"{type(error).__name__}: {first_line(error)}", "run with --debug for the traceback")


def is_disk_full(error: BaseException, output_dir: Path) -> bool:
    """Whether a write failed for lack of space, also where a library hid the system's own error."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, OSError) and current.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        text = str(current)
        if "No space left on device" in text or "os error 28" in text:
            return True
        # PyTorch's zip writer says only that a write failed.
        if "PytorchStreamWriter failed" in text or "unexpected pos" in text:
            return _free_bytes(output_dir) < 64 * 2**20
        current = current.__cause__ or current.__context__
    return False


def is_lost_peer(error: BaseException) -> bool:
    """Whether a collective failed because another worker went away (gloo and NCCL say it in words only)."""
    if type(error).__name__ not in ("RuntimeError", "DistBackendError", "DistNetworkError"):
        return False
    text = str(error)
    return any(phrase in text for phrase in _LOST_PEER)


def _disk_full(error: BaseException, output_dir: Path) -> FtlError:
    free_mb = _free_bytes(output_dir) / 2**20
    return FtlError(
        f"the disk of {output_dir} is full ({free_mb:.0f} MiB free) while saving: {first_line(error)}",
        "free some space or lower save_total_limit; the last committed checkpoint is intact: resume from it",
    )


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
