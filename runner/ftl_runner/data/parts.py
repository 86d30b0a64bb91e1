"""The entries of a config's data: where their rows are, and what turns each row into tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.convert import LengthRule, RowConverter
from ftl_runner.data.formats.preference_registry import kind_of
from ftl_runner.data.preference.convert import PreferenceConverter
from ftl_runner.data.sources import Source, find_source

if TYPE_CHECKING:
    from ftl_config import Config


@dataclass(frozen=True)
class Part:
    """The entries of one key: ``datasets`` or ``test_datasets``."""

    specs: tuple[DatasetSpec, ...]
    sources: tuple[Source, ...]
    converters: tuple[RowConverter | PreferenceConverter, ...]


@dataclass(frozen=True)
class Parts:
    """What is to be prepared: the entries to train on, and those to evaluate on."""

    train: Part
    test: Part

    @classmethod
    def of(cls, config: Config, tokenizer: Any) -> Parts:
        """Those of a config.

        Raises:
            DataError: no such file or dataset, an unknown type, or a chat template that does not fit.
        """
        data = config.data
        train = _part(config, tokenizer, data.datasets or (), data.sequence_len)
        return cls(
            train, _part(config, tokenizer, data.test_datasets or (), data.eval_sequence_len or data.sequence_len)
        )


def length_rule(data: DataSection, sequence_len: int) -> LengthRule:
    """What becomes of rows that are too long or too short."""
    return LengthRule(sequence_len, data.excess_length_strategy or "drop", data.min_sample_len or 2)


def seed_of(config: Config) -> int:
    """The seed of everything random in a config's data."""
    return 42 if config.training.seed is None else config.training.seed


def _part(config: Config, tokenizer: Any, specs: Sequence[DatasetSpec], sequence_len: int) -> Part:
    data = config.data
    rule = length_rule(data, sequence_len)
    seed = seed_of(config)
    sources = tuple(find_source(spec, seed) for spec in specs)
    converters = tuple(make_converter(config, spec, tokenizer, rule) for spec in specs)
    return Part(tuple(specs), sources, converters)


def make_converter(
    config: Config, spec: DatasetSpec, tokenizer: Any, rule: LengthRule
) -> RowConverter | PreferenceConverter:
    """What turns the rows of an entry into tokens.

    Raises:
        DataError: an unknown type, or a chat template that does not fit.
    """
    kind = kind_of(config)
    if kind is None:
        return RowConverter(spec, config.data, tokenizer, rule)
    return PreferenceConverter(spec, config, tokenizer, rule, kind)
