"""What the checks of a node found, as the runner tells it and the launcher shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


CLUSTER = "cluster"
"""Stands for a node in what is found of all of them together."""


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    """Training would not work: the run ends before the model is loaded."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found on one node, what it wanted, and what mends it."""

    node: str
    check: str
    outcome: Outcome
    found: str
    wanted: str = ""
    fix: str = ""
    exit_code: int = 1
    """Of a run that ends because of it: 2 where the config asks for what cannot be."""

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value != ""}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Finding:
        """Read back what `to_json` wrote; what a newer ftl adds is left out."""
        known = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
        return cls(**{**known, "outcome": Outcome(known["outcome"])})


def event_fields(findings: Sequence[Finding], duration_s: float) -> dict[str, Any]:
    """The fields of a preflight event: what passed by name, everything else in full."""
    return {
        "num_nodes": len({finding.node for finding in findings} - {CLUSTER}),
        "passed": passed_checks(findings),
        "findings": [finding.to_json() for finding in findings if finding.outcome is not Outcome.PASSED],
        "duration_s": round(duration_s, 3),
    }


def passed_checks(findings: Iterable[Finding]) -> list[str]:
    """The checks that passed on every node, with what they found where that is the same everywhere."""
    found: dict[str, set[str]] = {}
    for finding in findings:
        found.setdefault(finding.check, set()).add(finding.found if finding.outcome is Outcome.PASSED else "!")
    names = {check: texts for check, texts in found.items() if "!" not in texts}
    return [f"{check} ({next(iter(texts))})" if len(texts) == 1 else check for check, texts in names.items()]


def event_findings(fields: Mapping[str, Any]) -> list[Finding]:
    """What did not pass, from the fields of an event."""
    return [Finding.from_json(values) for values in fields.get("findings") or ()]


def event_text(fields: Mapping[str, Any]) -> str:
    """A preflight event as plain lines: one for what passed, one for each thing that did not."""
    lines = [summary_line(fields)]
    for finding in event_findings(fields):
        wanted = f"; wanted: {finding.wanted}" if finding.wanted else ""
        fix = f"; fix: {finding.fix}" if finding.fix else ""
        lines.append(f"  {finding.outcome}  {finding.node}  {finding.check}: {finding.found}{wanted}{fix}")
    return "\n".join(lines)


def summary_line(fields: Mapping[str, Any]) -> str:
    """``[preflight] 2 nodes: disk, clock passed (0.4 s)``."""
    num_nodes = fields.get("num_nodes") or 0
    passed = ", ".join(fields.get("passed") or ()) or "nothing"
    nodes = "1 node" if num_nodes == 1 else f"{num_nodes} nodes"
    return f"[preflight] {nodes}: {passed} passed ({fields.get('duration_s') or 0:.1f} s)"


def table(findings: Iterable[Finding]) -> Table:
    """The findings as a table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(title="preflight", title_justify="left", expand=False)
    for name in ("node", "check", "found", "wanted", "fix"):
        grid.add_column(name, overflow="fold", no_wrap=name == "check", ratio=2 if name == "fix" else None)
    styles = {Outcome.PASSED: "green", Outcome.WARNING: "yellow", Outcome.FAILED: "red"}
    for finding in findings:
        cells = (finding.check, finding.found, finding.wanted, finding.fix)
        grid.add_row(finding.node, *(Text(cell) for cell in cells), style=styles[finding.outcome])
    return grid
