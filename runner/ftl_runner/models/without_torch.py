"""transformers for tokenizing alone: imported without torch, in a process that has no use for it.

Where torch is installed transformers imports it (and accelerate) for ``AutoTokenizer``: most of a start's cost, more
than tokenizing a small set. Python's own way to say that a module is not there, an entry of None in ``sys.modules``,
makes transformers take the road of an installation without torch, which it supports for tokenizers.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ftl_runner.data.formats.registry import REGISTRY

if TYPE_CHECKING:
    from ftl_config import Config


def import_transformers_without_torch() -> None:
    """Import transformers' tokenizers; from then on this process cannot load models. torch itself can be imported."""
    if "torch" in sys.modules or "transformers" in sys.modules:
        return
    quiet = os.environ.get("TRANSFORMERS_NO_ADVISORY_WARNINGS")
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # it says that torch was not found
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from transformers import AutoTokenizer  # noqa: F401 - the import is what is wanted
    finally:
        del sys.modules["torch"]
        if quiet is None:
            del os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"]
        else:
            os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = quiet


def needs_models(config: Config) -> bool:
    """Whether preparing the data runs code of the user's or of the model's, which may use transformers' models."""
    types = [spec.type for spec in (*(config.data.datasets or ()), *(config.data.test_datasets or ()))]
    own = any(isinstance(name, str) and "." in name and name not in REGISTRY for name in types)
    return own or bool(config.model.trust_remote_code)
