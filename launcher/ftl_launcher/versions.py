"""The version of this installation, found without importing anything heavy."""

from __future__ import annotations


def ftl_version() -> str:
    """Version of the installed distribution, or ``0+unknown`` where ftl runs from a bare source tree."""
    from importlib import metadata

    try:
        return metadata.version("ftl-tune")
    except metadata.PackageNotFoundError:
        return "0+unknown"
