"""Your own format: ``type: package.module.function``, a function from a row to one of our shapes."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.errors import DataError, RowError, did_you_mean
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
        made = call(variant, function, row)
        if isinstance(made, Conversation | Segments | TokenRow):
            return made
        if isinstance(made, Mapping):
            for name, shape in shapes.items():
                if made.get(name) is not None:
                    return shape(made)
        raise RowError(f"{variant} returned {describe(made)}", f"return a dict with one of: {', '.join(shapes)}")

    return convert


def before_format(path: str, made: Callable[[Row], Any]) -> Callable[[Row], Any]:
    """``input_transform``: the function at ``path`` takes the row first and returns the row that the format reads."""
    function = import_object(path, "input_transform", no_module("input_transform"))

    def convert(row: Row) -> Any:
        changed = call(path, function, dict(row))
        if not isinstance(changed, Mapping):
            raise RowError(f"input_transform {path} returned {describe(changed)}", "return the row as a dict")
        return made(changed)

    return convert


def call(path: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What the user's function returns.

    Raises:
        RowError: whatever it raised, with the function's name.
    """
    try:
        return function(*arguments)
    except RowError:
        raise
    except Exception as error:  # the user's code: name it, and the row
        raise RowError(f"{path} failed: {type(error).__name__}: {error}") from error


def import_function(path: str) -> Callable[[Row], Any]:
    """The function at a dotted path given as ``type:``.

    Raises:
        DataError: no such module or name, or it is no function.
    """
    made: Callable[[Row], Any] = import_object(path, "type", unknown_type)
    return made


def no_module(key: str) -> Callable[[str], DataError]:
    """The error for a module that is not there, under another key than ``type``."""
    return lambda path: DataError(
        f"{key}: {path}: no module {path.rpartition('.')[0]!r}", "modules are looked for in the working directory too"
    )


def source_of(path: str) -> str:
    """The text of the module that a function comes from, or the path where it has none."""
    function = import_object(path, "type", unknown_type)
    try:
        return inspect.getsource(inspect.getmodule(function) or function)
    except (OSError, TypeError):
        return path


def import_object(path: str, key: str, missing: Callable[[str], DataError]) -> Callable[..., Any]:
    """The function at a dotted path; the working directory is searched too.

    Args:
        key: the config key that names it, for errors.
        missing: makes the error for a module that does not exist.

    Raises:
        DataError: no such module or name, it is no function, or its module cannot be imported.
    """
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise DataError(f"{key}: {path} is no dotted path", "name a function as module.function")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise DataError(f"{key}: {path}: its module needs {error.name!r}, which is not installed") from error
        raise missing(path) from error
    except Exception as error:  # the user's module: whatever its import raises
        raise DataError(f"{key}: {path}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [other for other, value in vars(module).items() if callable(value) and not other.startswith("_")]
        raise DataError(f"{key}: {path}: module {module_name} has no function {name!r}", did_you_mean(name, known))
    made: Callable[..., Any] = function
    return made
