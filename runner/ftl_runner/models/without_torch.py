"""transformers for tokenizing alone: imported without torch, in a process that has no use for it.

Where torch is installed transformers imports it (and accelerate) for ``AutoTokenizer``: most of a start's cost, more
than tokenizing a small set. Python's own way to say that a module is not there, an entry of None in ``sys.modules``,
makes transformers take the road of an installation without torch, which it supports for tokenizers.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from ftl_runner.data.formats.preference_registry import GROUPS, kind_of
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
    gc.disable()  # nothing of what is imported goes away again: looking for it takes a tenth of the time
    try:
        from transformers import AutoTokenizer  # noqa: F401 - the import is what is wanted
    finally:
        gc.enable()
        gc.freeze()
        del sys.modules["torch"]
        if quiet is None:
            del os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"]
        else:
            os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = quiet


def needs_models(config: Config) -> bool:
    """Whether preparing the data runs code of the user's or of the model's, which may use transformers' models."""
    specs = (
        *(config.data.datasets or ()),
        *(config.data.test_datasets or ()),
        *(config.data.pretraining_dataset or ()),
    )
    own = any(spec.input_transform or _is_own(spec.type) for spec in specs)
    return own or kind_of(config) == "task" or bool(config.model.trust_remote_code)


def _is_own(name: object) -> bool:
    known = isinstance(name, str) and (name in REGISTRY or any(name in group.types for group in GROUPS))
    return isinstance(name, str) and "." in name and not known
