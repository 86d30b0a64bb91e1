"""Plain files that ship with ftl (templates, examples): in the wheel under ``_data``, in a checkout at its root."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_ROOTS = (_PACKAGE / "_data", _PACKAGE.parent.parent)


def asset_path(relative: str) -> Path:
    """The path of a shipped file or folder such as ``templates/deepspeed/zero2.json``.

    Raises:
        FileNotFoundError: nothing of that name ships with ftl.
    """
    for root in _ROOTS:
        if (root / relative).exists():
            return root / relative
    raise FileNotFoundError(f"no shipped file {relative}")
