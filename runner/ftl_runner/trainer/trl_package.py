"""TRL, which only preference methods need, by the names of its classes."""

from __future__ import annotations

import importlib.util

from ftl_config.errors import FtlError


def trl_class(name: str) -> type:
    """A class of TRL, imported now.

    Raises:
        FtlError: TRL is not installed.
    """
    if importlib.util.find_spec("trl") is None:
        raise FtlError("this method needs the package trl", "pip install 'ftl-tune[preference]', or use our image", 2)
    import trl

    made: type = getattr(trl, name)
    return made
