"""From what a user wrote to a typed Config: text, tree, flags, old spellings, key statuses, types, rules.

Each stage reports into one Report, so that a user sees every problem at once; only text that is no YAML mapping at all
ends the work early.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftl_config.canonical import canonical_values, digest_of, to_yaml
from ftl_config.errors import Problem
from ftl_config.keys import LAUNCH, keys
from ftl_config.legacy import rewrite
from ftl_config.nodes import DEFAULT, Items, Mapping, Origin, origin_at
from ftl_config.overrides import apply_overrides
from ftl_config.parse import parse_yaml
from ftl_config.report import Report
from ftl_config.rules import check_rules
from ftl_config.sections import build_config
from ftl_config.source import read_source
from ftl_config.status import check_keys

if TYPE_CHECKING:
    from ftl_config.schema.config import Config


@dataclass(frozen=True)
class LoadedConfig:
    """A checked config with what is known about how it came to be."""

    config: Config
    warnings: tuple[Problem, ...]
    origins: dict[str, Origin]
    """Top-level key to where its value comes from, for every key there is."""
    launch_origins: dict[str, Origin]
    """The same for the keys of the launch section that were set."""
    entry_origins: dict[str, Origin]
    """The same for the keys of dataset entries, under names such as ``datasets[0].path``."""
    source_name: str
    digest: str
    """SHA-256 (hex) of the values that were set, the launch section left out: equal for equal training."""

    def to_yaml(self) -> str:
        """The keys that were set, in today's spelling; loading it again gives an equal Config."""
        return to_yaml(canonical_values(self.config))


def load_config(
    source: str | Path,
    overrides: Sequence[str] = (),
    *,
    allow_unknown: bool = False,
    partial: bool = False,
    data_only: bool = False,
) -> LoadedConfig:
    """Load and check a config.

    Args:
        source: path, ``-`` for standard input, or ``https://`` address.
        overrides: flags as typed, such as ``["--learning-rate", "1e-4", "--launch.nodes=2", "--no-bf16"]``.
        allow_unknown: an unknown key in the file is a warning.
        partial: leave out the rules that ask for completeness (base_model, datasets, ...).
        data_only: for `ftl preprocess`: keys of methods pass whose data can be prepared but which cannot train yet.

    Raises:
        ConfigError: with every problem found.
    """
    text, name = read_source(source)
    return load_text(text, overrides, name=name, allow_unknown=allow_unknown, partial=partial, data_only=data_only)


def load_text(
    text: str,
    overrides: Sequence[str] = (),
    *,
    name: str = "config.yml",
    allow_unknown: bool = False,
    partial: bool = False,
    data_only: bool = False,
    statuses: bool = True,
) -> LoadedConfig:
    """``load_config`` for text at hand.

    Args:
        statuses: False lets keys pass that are known but not yet supported.
    """
    root, problems = parse_yaml(text, name)
    report = Report(root, problems)
    apply_overrides(root, overrides, report)
    rewrite(root, report)
    check_keys(root, report, allow_unknown=allow_unknown, statuses=statuses, data_only=data_only)
    config = build_config(root, report)
    check_rules(config, report, partial=partial)
    warnings = report.finish()
    return LoadedConfig(
        config, warnings, _origins(root), _launch_origins(root), _entry_origins(root), name, digest_of(config)
    )


def _origins(root: Mapping) -> dict[str, Origin]:
    return {name: origin_at(root, (name,)) if name in root.nodes else DEFAULT for name in keys()}


def _entry_origins(root: Mapping) -> dict[str, Origin]:
    origins: dict[str, Origin] = {}
    for key in ("datasets", "test_datasets"):
        entries = root.nodes.get(key)
        for index, entry in enumerate(entries.nodes if isinstance(entries, Items) else ()):
            if isinstance(entry, Mapping):
                origins |= {f"{key}[{index}].{name}": origin for name, origin in entry.origins.items()}
    return origins


def _launch_origins(root: Mapping) -> dict[str, Origin]:
    launch = root.nodes.get(LAUNCH)
    return {str(name): origin for name, origin in launch.origins.items()} if isinstance(launch, Mapping) else {}
