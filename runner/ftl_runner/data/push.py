"""``push_dataset_to_hub``: the prepared data as a private dataset on the Hugging Face hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ftl_runner.data.errors import DataError


def push_once(splits: Mapping[str, Any], repo: str, root: Path, fingerprint: str, say: Callable[[str], None]) -> None:
    """Upload the sets as configuration ``fingerprint`` of a private dataset; once, as a mark in ``root`` remembers.

    The caller holds the lock of the fingerprint.

    Raises:
        DataError: no token, no permission, or no network.
    """
    mark = root / f".{fingerprint}.pushed-{hashlib.sha256(repo.encode()).hexdigest()[:12]}"
    if mark.exists():
        return
    from datasets import DatasetDict

    say(f"uploading the prepared data to {repo} on the hub")
    try:
        DatasetDict(dict(splits)).push_to_hub(repo, config_name=fingerprint, private=True)
    except Exception as error:  # the library raises a dozen kinds, from requests, hub and itself
        text = str(error).strip().splitlines()[0] if str(error).strip() else ""
        refused = any(sign in f"{type(error).__name__} {text}" for sign in ("401", "403", "Token", "token"))
        hint = "set HF_TOKEN to a token that may write there" if refused else "check the name and the network"
        raise DataError(f"push_dataset_to_hub: {repo}: {type(error).__name__}: {text}", hint) from error
    mark.touch()
