"""`ftl pull` from an S3-protocol server, as a user runs it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from ftl_launcher.records import RunStore
from tests.e2e.ftl_cli import Ftl
from tests.unit.launcher.plans import plan_of, record_of

pytestmark = pytest.mark.slow


def record_run(home: Path, uri: str) -> None:
    record = record_of(plan_of(name="one"), checkpoint_uri=uri)
    RunStore(home / "runs.sqlite3").create(record)


def test_pull_from_a_bucket(s3_server: Any, tmp_path: Path) -> None:
    environment = s3_server.environment
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    content = bytes(range(256)) * 40_000  # 10 MB: in several parts
    manifest = {"path": "model.safetensors", "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    prefix = f"{tmp_path.name}/one"
    client.put_object(Bucket=s3_server.bucket, Key=f"{prefix}/checkpoint-3/model.safetensors", Body=content)
    client.put_object(
        Bucket=s3_server.bucket,
        Key=f"{prefix}/checkpoint-3/ftl_manifest.json",
        Body=json.dumps({"step": 3, "files": [manifest]}),
    )
    record_run(tmp_path / "home", f"s3://{s3_server.bucket}/{prefix}")
    ftl = Ftl(tmp_path / "home", tmp_path, environment)
    found = json.loads(ftl.run("pull", "one", "--list", "--json").stdout)
    assert [row["name"] for row in found] == ["checkpoint-3"]
    ftl.run("pull", "one", "--dest", "model")
    assert (tmp_path / "model/model.safetensors").read_bytes() == content

    record_run(tmp_path / "other", "s3://no-such-bucket/one")
    refused = Ftl(tmp_path / "other", tmp_path, environment).run("pull", "one", check=False)
    assert refused.returncode == 1
    assert "s3://no-such-bucket/one cannot be read" in refused.stderr
    assert "Traceback" not in refused.stderr
