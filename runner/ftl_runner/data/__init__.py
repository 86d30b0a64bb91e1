"""Data: sources -> rows -> text with trained spans -> tokens and labels -> packed rows -> prepared cache.

Names are imported at first use: ``import ftl_runner.data`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftl_runner.data.collate import make_collator
    from ftl_runner.data.errors import DataError
    from ftl_runner.data.formats.registry import list_types
    from ftl_runner.data.pipeline import prepare
    from ftl_runner.data.prepared import Prepared, load_prepared
    from ftl_runner.data.prompts import SamplePrompt, first_rows, render_prompt, sample_prompts
    from ftl_runner.data.report import PrepareReport

_MODULES = {
    "DataError": "errors",
    "PrepareReport": "report",
    "Prepared": "prepared",
    "SamplePrompt": "prompts",
    "first_rows": "prompts",
    "list_types": "formats.registry",
    "load_prepared": "prepared",
    "make_collator": "collate",
    "prepare": "pipeline",
    "render_prompt": "prompts",
    "sample_prompts": "prompts",
}

__all__ = [
    "DataError",
    "PrepareReport",
    "Prepared",
    "SamplePrompt",
    "first_rows",
    "list_types",
    "load_prepared",
    "make_collator",
    "prepare",
    "render_prompt",
    "sample_prompts",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
