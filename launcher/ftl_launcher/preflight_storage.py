"""Can checkpoints be written where the config says? Asked by writing and deleting one tiny object."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ftl_config.errors import FtlError
from ftl_launcher.s3_client import s3_client

_QUICK = {"connect_timeout": 5, "read_timeout": 15, "retries": {"total_max_attempts": 2}}
"""A launch waits for the answer."""

_CREDENTIAL_CODES = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "AuthorizationHeaderMalformed"}
)


def check_checkpoint_store(uri: str, secrets: Mapping[str, str]) -> str | None:
    """Write a probe to the checkpoint store.

    Returns:
        None, or why the store could not be looked at (no client library for it here), for a warning.

    Raises:
        FtlError: missing bucket, refused credentials, unreachable endpoint, or an unwritable folder: each told apart.
    """
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        return _check_s3(uri, secrets)
    if scheme in ("", "file"):
        _check_folder(Path(urlsplit(uri).path if scheme else uri))
        return None
    return f"{scheme}:// checkpoints are not looked at before launch"


def _check_folder(path: Path) -> None:
    while not path.exists():
        path = path.parent
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
        raise FtlError(f"checkpoints cannot be written below {path}", hint="choose another `checkpoint` or output_dir")


def _check_s3(uri: str, secrets: Mapping[str, str]) -> str | None:
    try:
        import boto3  # noqa: F401 - botocore alone, which other packages bring, is not enough
        from botocore import exceptions
    except ImportError:
        return "boto3 is not installed here, so the checkpoint bucket was not looked at (pip install boto3)"
    parts = urlsplit(uri)
    bucket, key = parts.netloc, f"{parts.path.lstrip('/')}/.ftl-write-test-{uuid.uuid4().hex[:8]}".lstrip("/")
    try:
        client = s3_client(secrets, **_QUICK)
        client.put_object(Bucket=bucket, Key=key, Body=b"ftl")
        client.delete_object(Bucket=bucket, Key=key)
    except exceptions.ClientError as error:
        raise _client_error(error, bucket, uri) from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise FtlError(
            f"no S3 credentials for {uri}",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`",
        ) from error
    except (exceptions.EndpointConnectionError, exceptions.HTTPClientError) as error:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"
        raise FtlError(
            f"no S3 server answers at {endpoint}", hint="is AWS_ENDPOINT_URL right, and the server up?"
        ) from error
    except (exceptions.BotoCoreError, ValueError) as error:
        raise FtlError(f"the checkpoint bucket cannot be used: {error}", hint=f"given: {uri}") from error
    return None


def _client_error(error: Any, bucket: str, uri: str) -> FtlError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in ("NoSuchBucket", "404"):
        return FtlError(f"the bucket {bucket!r} does not exist", hint=f"aws s3 mb s3://{bucket}")
    if code in _CREDENTIAL_CODES:
        return FtlError(
            f"S3 refuses the credentials ({code})", hint="check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if code == "AccessDenied" or status == 403:
        return FtlError(
            f"no permission to write to {uri} ({code or status})",
            hint=f"the key needs s3:PutObject, GetObject, ListBucket and DeleteObject on {bucket}",
        )
    message = error.response.get("Error", {}).get("Message") or str(error)
    return FtlError(f"S3 refuses to write to {uri}: {code} {message}")
