"""Functions of the user's own for preference data, in Axolotl's form or as a plain function of a row.

Axolotl's form is a factory, ``def transform(cfg, *args, **kwargs)``, that returns the function of a row, alone or with
a dict of options of which ``remove_columns`` counts here. What the function returns is added to the row's columns.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ftl_runner.data.errors import DataError, RowError
from ftl_runner.data.formats.python_path import call, import_function
from ftl_runner.data.rows import Row, describe

if TYPE_CHECKING:
    from ftl_config import Config
    from ftl_config.schema.data import DatasetSpec

_FACTORY_ARGUMENTS = ("cfg", "config")
_Made = TypeVar("_Made")


def own_transform(
    spec: DatasetSpec, shape: Callable[[Row], _Made], fields: str, config: Config, tokenizer: Any
) -> Callable[[Row], _Made]:
    """The format that calls the function at the entry's ``type``; ``shape`` reads what it returns.

    Raises:
        DataError: no such function, or the factory fails or returns no function.
    """
    path = str(spec.type).strip()
    function, removed = _row_function(path, spec, config)
    wants_tokenizer = "tokenizer" in _parameters(function)

    def convert(row: Row) -> _Made:
        arguments = {"tokenizer": tokenizer} if wants_tokenizer else {}
        made = call(path, lambda: function(dict(row), **arguments))
        if not isinstance(made, Mapping):
            raise RowError(f"{path} returned {describe(made)}", f"return a dict with {fields}")
        kept = {name: value for name, value in row.items() if name not in removed}
        try:
            return shape({**kept, **made})
        except RowError as error:
            raise RowError(f"what {path} returned: {error.message}", error.hint) from error

    return convert


def _row_function(path: str, spec: DatasetSpec, config: Config) -> tuple[Callable[..., Any], frozenset[str]]:
    function: Callable[..., Any] = import_function(path)
    names = _parameters(function)
    if not names or names[0] not in _FACTORY_ARGUMENTS:
        return function, frozenset()
    entries = [*(config.data.datasets or ()), *(config.data.test_datasets or ())]
    number = {"dataset_idx": entries.index(spec)} if "dataset_idx" in names and spec in entries else {}
    try:
        made = function(_options(config), **number)
    except Exception as error:  # the user's code: name it
        raise DataError(f"type: {path} failed: {type(error).__name__}: {error}") from error
    made, options = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not callable(made):
        raise DataError(f"type: {path} returned {describe(made)}, not a function of a row")
    removed = options.get("remove_columns") if isinstance(options, Mapping) else None
    if isinstance(removed, str):
        removed = [removed]
    return made, frozenset(map(str, removed)) if isinstance(removed, Iterable) else frozenset()


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a builtin
        return []


def _options(config: Config) -> _Options:
    """Every key with its value or default; sections and lists as they were written."""
    from ftl_config.canonical import canonical_values
    from ftl_config.keys import keys, value_of

    values = {name: value_of(config, name) for name in keys()}
    plain = {name: value for name, value in values.items() if isinstance(value, str | int | float | None)}
    return _Options({**plain, **canonical_values(config)})


class _Options(dict[str, Any]):
    """The config's keys as a factory written for Axolotl reads them: ``cfg.sequence_len``, None where not set."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = self.get(name)
        return _Options(value) if isinstance(value, dict) else value
