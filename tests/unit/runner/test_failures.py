"""What went wrong, told apart: a full disk, too little memory, a lost peer, anything else."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ftl_config.errors import FtlError
from ftl_config.protocol import ExitCode
from ftl_runner.failures import explain, is_disk_full, is_lost_peer


def chained(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except Exception as error:
            raise RuntimeError("saving failed") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ExitCode.FAILURE, "is full"),
        (chained(OSError(errno.ENOSPC, "No space left on device")), ExitCode.FAILURE, "is full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), ExitCode.FAILURE, "is full"),
        (MemoryError("unable to allocate"), ExitCode.OUT_OF_MEMORY, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), ExitCode.OUT_OF_MEMORY, "out of memory"),
        (ValueError("odd\nsecond line"), ExitCode.FAILURE, "ValueError: odd"),
        (FtlError("known", "fix", exit_code=3), ExitCode.BAD_DATA, "known"),
    ],
)
def test_explained(error: Exception, code: ExitCode, says: str, tmp_path: Path) -> None:
    known = explain(error, tmp_path)
    assert known.exit_code == code
    assert says in known.message
    assert "second line" not in known.message
    assert known.hint


def test_zip_writer_failure_is_a_full_disk_only_where_the_disk_is_full(tmp_path: Path) -> None:
    assert not is_disk_full(RuntimeError("PytorchStreamWriter failed writing file data/1"), tmp_path)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:62680"), True),
        (RuntimeError("NCCL communicator was aborted on rank 1"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ConnectionError("Connection reset by peer"), False),  # S3, not a worker
    ],
)
def test_lost_peer(error: Exception, lost: bool) -> None:
    assert is_lost_peer(error) is lost
