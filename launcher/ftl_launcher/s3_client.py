"""boto3's client for S3, as the launcher uses it; imported only where a bucket is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def s3_client(secrets: Mapping[str, str], **settings: Any) -> Any:
    """Credentials of the run where it has its own, else boto3's usual chain.

    Args:
        secrets: values by the names of environment variables.
        settings: timeouts and retries, as botocore's ``Config`` takes them.

    Raises:
        ImportError: boto3 is not installed here.
    """
    import boto3
    from botocore.config import Config

    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    own = {name: secrets[name.upper()] for name in names if name.upper() in secrets}
    return boto3.client("s3", region_name=region, config=Config(**settings), **own)
