"""Classes of transformers by the names that ``model_type``, ``cls_model_config`` and ``tokenizer_type`` give."""

from __future__ import annotations

import difflib
from typing import Any

from ftl_runner.models.errors import ModelError


def transformers_class(key: str, name: str | None, default: str, *, trust_remote_code: bool = False) -> Any:
    """The class called ``name``, or ``default`` where the key is not set.

    A name that transformers lacks is a class of the model's own code where that may run, and ``default`` (an Auto
    class) finds it.

    Raises:
        ModelError: transformers has no such class.
    """
    import transformers

    found = getattr(transformers, name or default, None)
    if found is None and trust_remote_code:
        found = getattr(transformers, default)
    if not hasattr(found, "from_pretrained"):
        close = difflib.get_close_matches(str(name), dir(transformers), n=1)
        hint = f"did you mean {close[0]}?" if close else f"leave {key} out: {default} finds the class by itself"
        raise ModelError(f"{key}: transformers has no class {name}", hint, exit_code=2)
    return found


def refuse_own_code(source: str | None, error: Exception) -> None:
    """Say it plainly where transformers stopped because a source brings code of its own.

    Raises:
        ModelError: that is what it stopped for.
    """
    if "trust_remote_code" in str(error):
        raise ModelError(
            f"{source!r} comes with Python code of its own, which runs only where the config says so",
            "read that code; then set trust_remote_code: true",
            exit_code=2,
        ) from error
