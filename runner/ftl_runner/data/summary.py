"""What preparing a set did, added up over its chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ftl_runner.data.assemble import Written
from ftl_runner.data.build import Built
from ftl_runner.data.convert import Tally
from ftl_runner.data.formats.preference_registry import kind_of
from ftl_runner.data.length_bins import bins_of
from ftl_runner.data.parts import Part, Parts
from ftl_runner.data.report import LOUD_SHARE, PrepareReport, SourceReport

if TYPE_CHECKING:
    from ftl_config import Config


def make_report(
    config: Config,
    name: str,
    parts: Parts,
    built: tuple[Sequence[Built], Sequence[Built]],
    sets: tuple[Written, Written | None],
) -> PrepareReport:
    """The report of a set that was just written.

    Args:
        name: the set's fingerprint.
        built: the chunks of the training part and of the test part.
        sets: what was written to train on, and to evaluate on.
    """
    written, evaluated = sets
    both = (parts.train, parts.test)
    tally = Tally()
    for chunk in (*built[0], *built[1]):
        tally.add(chunk.tally)
    warnings = dict.fromkeys(text for part in both for converter in part.converters for text in converter.warnings)
    if cut := tally.dropped_tokens["prompt_cut"]:
        warnings[f"prompts were cut to max_prompt_len {config.data.max_prompt_len}: {cut:,} tokens are lost"] = None
    report = PrepareReport(
        fingerprint=name,
        cache_hit=False,
        cache_path="",
        sources=tuple(report for part, chunks in zip(both, built, strict=True) for report in _sources(part, chunks)),
        rows_read=tally.rows_read,
        rows_dropped=dict(tally.dropped),
        tokens_dropped=dict(tally.dropped_tokens),
        tokens=written.tokens,
        trained_tokens=written.trained_tokens,
        num_sequences=written.num_sequences,
        num_bins=written.num_bins,
        packing_efficiency=written.packing_efficiency,
        eval_sequences=evaluated.num_sequences if evaluated else 0,
        eval_tokens=evaluated.tokens if evaluated else 0,
        sequence_len=config.data.sequence_len,
        excess_length_strategy=config.data.excess_length_strategy or "drop",
        long_rows=tally.long_rows,
        long_tokens=tally.long_tokens,
        excess_tokens=tally.excess_tokens,
        masked_tokens=tally.masked_tokens,
        longest_row=tally.longest_row,
        long_lengths=bins_of(tally.long_lengths),
        long_bins=bins_of(tally.long_bins),
        length_histogram=(),
        prepare_s=0.0,
        warnings=(*warnings, *(f"{text} ({count:,} rows)" for text, count in tally.notes.most_common())),
        extra={"kind": kind} if (kind := kind_of(config)) else {},
    )
    if report.lost_share >= LOUD_SHARE:
        return replace(report, extra={**report.extra, "lost_share": round(report.lost_share, 4)})
    return report


def _sources(part: Part, built: Sequence[Built]) -> list[SourceReport]:
    reports = []
    for number, (spec, source, converter) in enumerate(zip(part.specs, part.sources, part.converters, strict=True)):
        rows = sum(chunk.tally.rows_read for chunk in built if chunk.chunk.entry == number)
        kind = spec.type if isinstance(spec.type, str) else "user_defined" if spec.type else "pretokenized"
        reports.append(SourceReport(source.name, kind, rows, converter.template.name if converter.template else None))
    return reports
