"""What an image that is there says of itself, and whether that fits this ftl."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from ftl_config.errors import FtlError
from ftl_launcher.images import LOCK_HASH_LABEL, Flavour, find_flavour, flavours

_ENGINES = ("docker", "podman")
_TIMEOUT_S = 20


def image_labels(reference: str) -> dict[str, str] | None:
    """Labels of an image of this machine, else of a registry's (by skopeo, where that is installed).

    None where neither knows it.
    """
    if (found := _inspect(reference)) is not None:
        return dict((found.get("Config") or {}).get("Labels") or found.get("Labels") or {})
    if shutil.which("skopeo") and (asked := ask(["skopeo", "inspect", f"docker://{reference}"])) is not None:
        return dict(json.loads(asked).get("Labels") or {})
    return None


def image_size(reference: str) -> int | None:
    """Unpacked bytes of an image of this machine; None where it is not here."""
    found = _inspect(reference)
    return None if found is None else int(found.get("Size") or 0)


def check_labels(reference: str, labels: Mapping[str, str]) -> Flavour:
    """The flavour that an image was built as.

    Raises:
        FtlError: it is none of ftl's, or was built from other versions than this ftl has.
    """
    found = labels.get(LOCK_HASH_LABEL)
    if found is None:
        raise FtlError(
            f"{reference} is no image of ftl's: it has no label {LOCK_HASH_LABEL}",
            hint="build one with `ftl images build`, or start your Dockerfile FROM one",
            exit_code=2,
        )
    flavour = find_flavour(labels.get("ftl.flavour", ""))
    if found != flavour.lock_hash:
        version = labels.get("org.opencontainers.image.version", "another version")
        raise FtlError(
            f"{reference} was built by ftl {version} from other versions (lock {found}, this ftl has "
            f"{flavour.lock_hash})",
            hint=f"build it anew: `ftl images build --flavour {flavour.name}`; or install the ftl that built it",
            exit_code=2,
        )
    return flavour


def check_image(reference: str, *, must_be_here: bool) -> None:
    """Before a launch: an image of ours that does not fit is refused; a foreign one is the user's choice.

    Raises:
        FtlError: it does not fit, or it is not on this machine though it has to be.
    """
    labels = image_labels(reference)
    if labels is None:
        if must_be_here and (flavour := _flavour_called(reference)):
            raise FtlError(
                f"no image {reference} on this machine", hint=f"`ftl images build --flavour {flavour}`", exit_code=2
            )
    elif LOCK_HASH_LABEL in labels:
        check_labels(reference, labels)


def ask(argv: Sequence[str]) -> str | None:
    """What a command prints; None where it fails, or does not answer in time."""
    try:
        done = subprocess.run(list(argv), capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None


def _flavour_called(reference: str) -> str | None:
    """The flavour whose own name this is: nobody but `ftl images build` makes such an image."""
    return next((name for name, flavour in flavours().items() if flavour.reference == reference), None)


def _inspect(reference: str) -> dict[str, Any] | None:
    for engine in filter(shutil.which, _ENGINES):
        if (asked := ask([engine, "image", "inspect", reference])) is not None:
            found: dict[str, Any] = json.loads(asked)[0]
            return found
    return None
