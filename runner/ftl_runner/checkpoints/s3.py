"""S3 checkpoint store, over boto3: multipart transfers, its adaptive retries, conditional creation (If-None-Match)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ftl_runner.checkpoints.errors import StoreError

Result = TypeVar("Result")

_FIXES = {
    "NoSuchBucket": "create the bucket, or name an existing one in `checkpoint:`",
    "404": "create the bucket, or name an existing one in `checkpoint:`",
    "AccessDenied": "the credentials lack permission on this bucket (s3:GetObject, s3:PutObject, s3:ListBucket)",
    "403": "the credentials are refused or lack permission on this bucket",
    "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID is not known to this endpoint",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not fit AWS_ACCESS_KEY_ID",
    "RequestTimeTooSkewed": "the clock of this node is off: chronyc makestep, or timedatectl",
    "ExpiredToken": "the session token has expired: log in again",
}


class S3Store:
    """Objects below ``s3://bucket/prefix``. Credentials and endpoint come from boto3's own chain (environment,
    profile, instance role; ``AWS_ENDPOINT_URL`` for other S3-protocol servers)."""

    def __init__(self, uri: str, *, quick: bool = False) -> None:
        import boto3
        from botocore.config import Config as BotoConfig

        self.uri = uri.rstrip("/")
        self._bucket, _, self._prefix = self.uri.removeprefix("s3://").partition("/")
        if not self._bucket:
            raise StoreError(f"no bucket in the checkpoint URI {uri!r}", "write s3://bucket/path")
        self._client: Any = boto3.client(
            "s3",
            config=BotoConfig(
                retries={"mode": "adaptive", "total_max_attempts": 3 if quick else 6},
                connect_timeout=5 if quick else 10,
                read_timeout=15 if quick else 60,
            ),
        )

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def local_path(self, key: str) -> Path | None:
        return None

    def upload(self, source: Path, key: str) -> None:
        self._call(lambda: self._client.upload_file(str(source), self._bucket, self._key(key)))

    def download(self, key: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._call(lambda: self._client.download_file(self._bucket, self._key(key), str(target)))

    def read(self, key: str) -> bytes | None:
        from botocore.exceptions import ClientError

        def get() -> bytes | None:
            try:
                response = self._client.get_object(Bucket=self._bucket, Key=self._key(key))
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return None
                raise
            body: bytes = response["Body"].read()
            return body

        return self._call(get)

    def write(self, key: str, content: bytes) -> None:
        self._call(lambda: self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=content))

    def written_at(self, key: str) -> float | None:
        head = self._call(lambda: self._client.head_object(Bucket=self._bucket, Key=self._key(key)))
        return float(head["LastModified"].timestamp())

    def create(self, key: str, content: bytes) -> bool:
        from botocore.exceptions import ClientError

        def put() -> bool:
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=content, IfNoneMatch="*")
            except ClientError as error:
                if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
                    return False
                raise
            return True

        return self._call(put)

    def list(self, prefix: str) -> Iterator[str]:
        paginator = self._client.get_paginator("list_objects_v2")
        pages = paginator.paginate(Bucket=self._bucket, Prefix=self._key(prefix))
        objects = self._call(lambda: [item["Key"] for page in pages for item in page.get("Contents", ())])
        for name in sorted(objects):
            yield name.removeprefix(self._prefix).lstrip("/")

    def delete(self, prefix: str) -> None:
        # One request an object: DeleteObjects is missing on some S3-protocol servers.
        for key in list(self.list(prefix)):
            self._call(partial(self._client.delete_object, Bucket=self._bucket, Key=self._key(key)))

    def _call(self, operation: Callable[[], Result]) -> Result:
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            return operation()
        except NoCredentialsError as error:
            raise StoreError(
                f"no S3 credentials for {self.uri}",
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in with aws",
            ) from error
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            raise StoreError(f"S3 refused {self.uri}: {error}", _FIXES.get(code)) from error
        except S3UploadFailedError as error:
            fix = next((text for code, text in _FIXES.items() if code in str(error)), None)
            raise StoreError(f"upload to {self.uri} failed: {error}", fix) from error
        except BotoCoreError as error:
            raise StoreError(
                f"S3 cannot be reached for {self.uri}: {error}", "check the network and AWS_ENDPOINT_URL"
            ) from error
