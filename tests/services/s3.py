"""The S3-protocol server of the tests, and the credentials that no file or output may ever hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
S3_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "planted-key-id-5Qk2",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-9fX7wZ",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@dataclass(frozen=True)
class S3Server:
    """A running S3-protocol server; ``environment`` is what boto3 needs to talk to it."""

    endpoint: str
    bucket: str

    @property
    def environment(self) -> dict[str, str]:
        return {**S3_CREDENTIALS, "AWS_ENDPOINT_URL": self.endpoint}


@contextmanager
def running_s3_server(bucket: str, environment: Mapping[str, str] | None = None) -> Iterator[S3Server]:
    """moto on loopback with one bucket, for as long as the block lasts."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts/s3_server.py"), bucket],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert process.stdout is not None
    endpoint = process.stdout.readline().strip()
    assert endpoint.startswith("http://127.0.0.1:")
    try:
        yield S3Server(endpoint, bucket)
    finally:
        process.terminate()
        process.wait(20)
