"""What preparing the data did, in figures, for the log, the summary and ``ftl preprocess``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ftl_runner.data.length_bins import Bins

LOUD_SHARE = 0.02
"""From this share of lost tokens on, the loss is a warning."""

_WORDS = {
    "pair": ("pairs", "in answers"),
    "reward": ("pairs", "in answers"),
    "unpaired": ("answers", "in answers"),
    "steps": ("solutions", "judged"),
    "task": ("prompts", ""),
}
"""Kind of data (``extra["kind"]``) -> what its sequences are called, and its trained tokens, if it has any."""


class ReportLine(str):
    """A line of progress that belongs to the report."""


@dataclass(frozen=True)
class SourceReport:
    """One dataset entry; ``rows`` as they were read."""

    name: str
    type: str
    rows: int
    chat_template: str | None = None


@dataclass(frozen=True)
class PrepareReport:
    """Rows are the user's rows; sequences are what they became; a packed row (bin) holds several sequences."""

    fingerprint: str
    cache_hit: bool
    cache_path: str
    sources: tuple[SourceReport, ...]
    rows_read: int
    rows_dropped: Mapping[str, int]
    tokens_dropped: Mapping[str, int]
    tokens: int
    """Of the training set, padding not counted."""
    trained_tokens: int
    num_sequences: int
    num_bins: int | None
    packing_efficiency: float | None
    """Tokens over slots of the training set's bins; None without packing."""
    eval_sequences: int
    eval_tokens: int
    sequence_len: int
    excess_length_strategy: str
    long_rows: int
    long_tokens: int
    excess_tokens: int
    masked_tokens: int
    length_histogram: Bins
    """Sequences of the training set, in bins that double."""
    prepare_s: float
    warnings: tuple[str, ...] = ()
    rejected_path: str | None = None
    """File of rows that were skipped as bad."""
    longest_row: int = 0
    """Tokens of the longest row over ``sequence_len``."""
    long_lengths: Bins = ()
    """Rows over ``sequence_len`` as they were before, in bins that double."""
    length_bins: Bins = ()
    """Sequences of the training set, in bins of one width."""
    long_bins: Bins = ()
    """Rows over ``sequence_len`` in bins of that width; the last is open."""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PrepareReport:
        """The inverse of ``to_dict``."""
        sources = tuple(SourceReport(**source) for source in values["sources"])
        bins = {
            name: tuple((int(top), int(count)) for top, count in values.get(name, ()))
            for name in ("length_histogram", "long_lengths", "length_bins", "long_bins")
        }
        return cls(**{**values, **bins, "sources": sources, "warnings": tuple(values["warnings"])})

    def loss_line(self) -> str | None:
        """One line on rows over ``sequence_len``: what was lost and what the other choice would lose; None if none."""
        if not self.long_rows:
            return None
        total = self.tokens + self.eval_tokens + sum(self.tokens_dropped.values())
        if self.excess_length_strategy == "truncate":
            total += self.excess_tokens
        dropped = f"{self.long_rows:,} rows and {_share(self.long_tokens, total)} of the tokens"
        cut = f"{_share(self.excess_tokens + self.masked_tokens, total)} of the tokens"
        if self.excess_length_strategy == "drop":
            chosen = f"drop loses {dropped} ({self.long_tokens:,}); truncate would lose {cut}"
        else:
            masked = f", {self.masked_tokens:,} of them in answers that were cut" if self.masked_tokens else ""
            lost = self.excess_tokens + self.masked_tokens
            chosen = f"truncate loses {cut} ({lost:,}{masked}); drop would lose {dropped}"
        return (
            f"{self.long_rows:,} of {self.rows_read:,} rows are longer than sequence_len {self.sequence_len}: "
            f"excess_length_strategy {chosen}; sequence_len {self.longest_row} would keep all"
        )

    @property
    def lost_share(self) -> float:
        """Share of the tokens that were lost to ``sequence_len``."""
        kept = self.tokens + self.eval_tokens
        lost = self.excess_tokens if self.excess_length_strategy == "truncate" else self.long_tokens
        return lost / (kept + lost) if kept + lost else 0.0

    def lines(self) -> list[str]:
        """A few lines for people."""
        reasons = [f"{n:,} {reason.replace('_', ' ')}" for reason, n in self.rows_dropped.items() if n]
        dropped = f" ({', '.join(reasons)})" if reasons else ""
        noun, trained = _WORDS.get(self.extra.get("kind", ""), ("sequences", "trained"))
        share = f", {self.trained_tokens:,} {trained} ({_share(self.trained_tokens, self.tokens)})" if trained else ""
        lines = [
            f"rows: {self.rows_read:,} read, {sum(self.rows_dropped.values()):,} dropped{dropped}",
            f"training set: {self.num_sequences:,} {noun}, {self.tokens:,} tokens{share}",
        ]
        if self.num_bins is not None:
            efficiency = f"{100 * (self.packing_efficiency or 0):.2f} %"
            lines.append(f"packed into {self.num_bins:,} rows of {self.sequence_len} tokens, {efficiency} full")
        if self.eval_sequences:
            lines.append(f"evaluation set: {self.eval_sequences:,} {noun}, {self.eval_tokens:,} tokens")
        loss = self.loss_line()
        if loss:
            lines.append(("WARNING: " if self.lost_share >= LOUD_SHARE else "") + loss)
        return [*lines, *(f"WARNING: {warning}" for warning in self.warnings)]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "0 %"
