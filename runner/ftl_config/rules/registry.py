"""How rules are written, found and run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftl_config.errors import Severity
from ftl_config.keys import is_set
from ftl_config.nodes import Path
from ftl_config.report import Report

if TYPE_CHECKING:
    from ftl_config.schema.config import Config


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule has found. The first path is where it is shown; all of them are what it is about."""

    message: str
    paths: tuple[Path, ...]
    hint: str | None = None
    severity: Severity = "error"


Rule = Callable[["Config"], Iterable[Finding]]


def error(message: str, *keys: str | Path, hint: str | None = None) -> Finding:
    """An error about keys, named by a word for a top-level key or by a path."""
    return Finding(message, tuple((key,) if isinstance(key, str) else key for key in keys), hint)


def warning(message: str, *keys: str | Path, hint: str | None = None) -> Finding:
    """The same as a warning."""
    return Finding(message, tuple((key,) if isinstance(key, str) else key for key in keys), hint, "warning")


def check_rules(config: Config, report: Report, *, partial: bool) -> None:
    """Run all rules. Findings about keys that have an error already are left out: they may be echoes of it."""
    bad = report.bad_keys()
    for rule in all_rules(partial=partial):
        for finding in rule(config):
            if any(str(path[0]) in bad for path in finding.paths):
                continue
            path = _shown_path(config, finding)
            tell = report.error if finding.severity == "error" else report.warn
            tell(path, finding.message, finding.hint)


def all_rules(*, partial: bool) -> Iterator[Rule]:
    """Every rule, in the order in which they are checked."""
    from ftl_config.rules import TOPICS

    for topic in TOPICS:
        if not (partial and topic.COMPLETENESS):
            yield from topic.RULES


def _shown_path(config: Config, finding: Finding) -> Path:
    for path in finding.paths:
        if is_set(config, str(path[0])):
            return path
    return finding.paths[0]
