"""Your own format: ``type: package.module.function``, a function from a row to one of our shapes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.errors import DataError, RowError
from ftl_runner.data.formats.chat import chat_template
from ftl_runner.data.formats.completion import completion
from ftl_runner.data.formats.input_output import input_output
from ftl_runner.data.formats.pretokenized import pretokenized
from ftl_runner.data.formats.registry import Format, unknown_type
from ftl_runner.data.messages import Conversation, Example, Segments, TokenRow
from ftl_runner.data.rows import Row, describe


def python_path(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """The function returns messages, segments, input and output, text, or input_ids, under these names."""
    function = import_function(variant)
    shapes: dict[str, Format] = {
        "messages": chat_template(spec, data, ""),
        "segments": input_output(spec, data, ""),
        "output": input_output(spec, data, ""),
        "text": completion(spec, data, ""),
        "input_ids": pretokenized(spec, data, ""),
    }

    def convert(row: Row) -> Example:
        try:
            made = function(row)
        except Exception as error:  # the user's code: name it, and the row
            raise RowError(f"{variant} failed: {type(error).__name__}: {error}") from error
        if isinstance(made, Conversation | Segments | TokenRow):
            return made
        if isinstance(made, Mapping):
            for name, shape in shapes.items():
                if made.get(name) is not None:
                    return shape(made)
        raise RowError(f"{variant} returned {describe(made)}", f"return a dict with one of: {', '.join(shapes)}")

    return convert


def import_function(path: str) -> Callable[[Row], Any]:
    """The function at a dotted path; the working directory is searched too.

    Raises:
        DataError: no such module or name, or it is no function.
    """
    module_name, _, name = path.rpartition(".")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.startswith(error.name):
            raise unknown_type(path) from error
        raise DataError(f"type: {path}: its module needs {error.name!r}, which is not installed") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise DataError(f"type: {path}: module {module_name} has no function {name!r}")
    made: Callable[[Row], Any] = function
    return made
