"""Configs and command lines of the end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.ftl_cli import Ftl
from tests.services.s3 import S3Server


@pytest.fixture
def ftl(tmp_path: Path, s3_server: S3Server) -> Ftl:
    return Ftl(tmp_path / "home", tmp_path, s3_server.environment)
