"""``ftl-runner first-rows``: tokenize the first rows of every dataset, for a launcher that asks before it rents.

Nothing is prepared or kept. What is wrong is told as data, so that the launcher can put it beside its other findings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError
from ftl_config.schema.data import DatasetSpec
from ftl_runner.data.build import BadRow, bad_row_error
from ftl_runner.data.errors import DataError
from ftl_runner.data.parts import length_rule, make_converter
from ftl_runner.data.row_streams import Placed, open_streams, read_rows
from ftl_runner.data.sources import find_source
from ftl_runner.data.splits import parse_rows
from ftl_runner.data.stream import train_entries
from ftl_runner.models.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from ftl_config import Config

_UNREACHABLE = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "ConnectionError",
        "EndpointConnectionError",
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "gaierror",
    }
)
"""Names of errors that say nothing about the thing asked for: httpx's, requests', botocore's, the hub's, Python's."""

_HUB_TIMEOUT_S = 5


@dataclass
class FirstRows:
    """What was found. ``errors`` would end the run; ``warnings`` could not be looked at, or may be meant so."""

    rows: int = 0
    tokens: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    """``message``, ``hint`` and ``exit_code`` of each."""
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def add(self, error: FtlError, *, unreachable: bool) -> None:
        """An error; only a warning where it says that this machine cannot reach what another one may."""
        if unreachable:
            self.warnings.append(f"not looked at, for it cannot be reached from here: {error.message}")
        else:
            self.errors.append({"message": error.message, "hint": error.hint, "exit_code": error.exit_code})


def look_at_first_rows(config: Config, count: int, *, elsewhere: bool) -> FirstRows:
    """Load the tokenizer and convert the first ``count`` rows of every dataset entry.

    Args:
        elsewhere: the run will be on another machine, so an absolute path that is not here is none of ours.
    """
    found = FirstRows()
    source = config.model.tokenizer_config or config.model.base_model or ""
    if elsewhere and _is_of_another_machine(source):
        found.warnings.append(f"rows were not tokenized: {source} is not on this machine")
        return found
    try:
        tokenizer = load_tokenizer(config)
    except FtlError as error:
        found.add(error, unreachable=elsewhere and (_is_unreachable(error) or _hub_is_unreachable(source)))
        return found
    for spec, sequence_len in _entries(config):
        if elsewhere and _is_of_another_machine(spec.path or ""):
            continue
        try:
            _look_at(spec, config, tokenizer, sequence_len, count, found)
        except FtlError as error:
            found.add(error, unreachable=elsewhere and _is_unreachable(error))
    return found


def _entries(config: Config) -> Iterator[tuple[DatasetSpec, int]]:
    data = config.data
    yield from ((spec, data.sequence_len) for spec in train_entries(config))
    yield from ((spec, data.eval_sequence_len or data.sequence_len) for spec in data.test_datasets or ())


def _look_at(
    spec: DatasetSpec, config: Config, tokenizer: Any, sequence_len: int, count: int, found: FirstRows
) -> None:
    placed = first_rows_of(spec, count)
    if not placed:
        raise DataError(f"{spec.path} has no rows", "a dataset needs at least one")
    converter = make_converter(config, spec, tokenizer, length_rule(config.data, sequence_len))
    kept, rejected, tally = converter.convert([row for _, _, row in placed], 0)
    found.rows += tally.rows_read
    found.tokens += sum(len(row.input_ids) for row in kept)
    if rejected and not config.data.skip_bad_rows:
        stream, index, _ = placed[rejected[0].index]
        raise bad_row_error(BadRow(stream.place(index), rejected[0].error), len(rejected))
    if not kept:
        found.warnings.append(f"{spec.path}: none of the first {len(placed)} rows is kept ({_reasons(tally.dropped)})")


def _reasons(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in dropped.items()) or "all bad"


def first_rows_of(spec: DatasetSpec, count: int) -> Sequence[Placed]:
    """The entry's own first rows; those of the file where its slice counts in percent or from the end."""
    source = find_source(spec)
    try:
        start, stop = parse_rows(source.part, source.name)
    except DataError:
        start, stop = 0, None
    return list(islice(read_rows(open_streams(source.origins), start + (spec.skip or 0), 1, stop), count))


def _is_of_another_machine(path: str) -> bool:
    return path.startswith(("/", "~")) and not Path(path).expanduser().exists()


def _is_unreachable(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if any(kind.__name__ in _UNREACHABLE for kind in type(seen).__mro__):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _hub_is_unreachable(source: str) -> bool:
    """To transformers a hub that does not answer and a name that is not there are one; to the hub's client two."""
    from huggingface_hub import HfApi

    if Path(source).exists():
        return False
    try:
        HfApi().model_info(source, timeout=_HUB_TIMEOUT_S)
    except Exception as error:  # of httpx, the hub and Python
        return _is_unreachable(error)
    return False
