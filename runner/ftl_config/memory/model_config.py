"""Finding a model's config.json: in its folder, in the hub's cache, or on the hub itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError

if TYPE_CHECKING:
    from ftl_config.schema.config import Config

FETCH_TIMEOUT_S = 10.0
_MAX_BYTES = 2**20
_HINT = "give base_model as a folder with config.json, or set HF_TOKEN for a gated model"


def read_model_config(config: Config, root: Path, *, token: str | None = None) -> dict[str, Any]:
    """The model's config.json with the ``model_config`` key applied.

    Args:
        config: names the model.
        root: folder that relative paths start from.
        token: for the hub; ``HF_TOKEN`` of the environment when None.

    Raises:
        FtlError: it is not there, or is not JSON.
    """
    keys = config.model
    name = keys.base_model_config or keys.base_model
    if not name:
        raise FtlError("base_model is missing", exit_code=2)
    found = _parse(_read(name, keys.model_revision or "main", root, token), name)
    return found | dict(keys.overrides_of_model_config or {})


def _parse(text: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise FtlError(f"the config.json of {name} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise FtlError(f"the config.json of {name} is not a JSON object")
    return found


def _read(name: str, revision: str, root: Path, token: str | None) -> bytes:
    folder = root / Path(name).expanduser()
    if folder.is_dir():
        file = folder / "config.json"
        if not file.is_file():
            raise FtlError(f"{name} has no config.json, which the memory is worked out from", _HINT)
        return file.read_bytes()
    cached = _cached(name, revision)
    if cached is not None:
        return cached.read_bytes()
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise FtlError(f"no such folder: {name}", _HINT)
    return _fetch(name, revision, token or os.environ.get("HF_TOKEN"))


def _cached(name: str, revision: str) -> Path | None:
    """The file in huggingface_hub's cache: ``models--org--name/snapshots/<commit>/config.json``."""
    home = os.environ.get("HF_HOME") or str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
    folder = cache / f"models--{name.replace('/', '--')}"
    reference = folder / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    file = folder / "snapshots" / commit / "config.json"
    return file if file.is_file() else None


def _fetch(name: str, revision: str, token: str | None) -> bytes:
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise FtlError(f"{name} is not in the hub's cache, and HF_HUB_OFFLINE is set", _HINT)
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    request = Request(f"{endpoint}/{name}/resolve/{revision}/config.json")  # noqa: S310 - the user's own hub
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urlopen(request, timeout=FETCH_TIMEOUT_S) as response:  # noqa: S310
            data: bytes = response.read(_MAX_BYTES)
    except HTTPError as error:
        raise FtlError(f"cannot read the config.json of {name}: the hub says {error.code}", _HINT) from error
    except (URLError, TimeoutError, OSError) as error:
        raise FtlError(f"cannot read the config.json of {name}: {getattr(error, 'reason', error)}", _HINT) from error
    return data
