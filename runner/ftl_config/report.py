"""Collects what is wrong with a config, so that all of it can be said at once."""

from __future__ import annotations

from collections.abc import Sequence

from ftl_config.errors import ConfigError, Problem, Severity
from ftl_config.nodes import Mapping, Origin, Path, origin_at, path_text


class Report:
    """Problems of one config. Places are looked up in the tree at the time a problem is added."""

    def __init__(self, root: Mapping, problems: Sequence[Problem] = ()) -> None:
        self.root = root
        self.problems = list(problems)

    def error(self, path: Path, message: str, hint: str | None = None, *, origin: Origin | None = None) -> None:
        self._add("error", path, message, hint, origin)

    def warn(self, path: Path, message: str, hint: str | None = None, *, origin: Origin | None = None) -> None:
        self._add("warning", path, message, hint, origin)

    def _add(self, severity: Severity, path: Path, message: str, hint: str | None, origin: Origin | None) -> None:
        place = origin or self._origin(path)
        problem = Problem(severity, path_text(path), message, hint, place.source or None, place.line, place.column)
        if problem not in self.problems:
            self.problems.append(problem)

    def _origin(self, path: Path) -> Origin:
        if path and path[0] not in self.root.nodes:
            return Origin("file", self.root.origin.source)
        return origin_at(self.root, path)

    def bad_keys(self) -> frozenset[str]:
        """Top-level keys that have an error."""
        return frozenset(
            problem.key.split(".")[0].split("[")[0] for problem in self.problems if problem.severity == "error"
        )

    def finish(self) -> tuple[Problem, ...]:
        """The warnings, in the order of the file.

        Raises:
            ConfigError: with warnings and errors, when there is an error.
        """
        ordered = sorted(self.problems, key=lambda problem: (problem.severity != "warning", problem.line or 0))
        if any(problem.severity == "error" for problem in ordered):
            raise ConfigError(ordered)
        return tuple(ordered)
