"""Config and tokenizer -> a streamed training set, tried on its first rows before a model is loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ftl_config.schema.data import DatasetSpec
from ftl_runner.data.convert import LengthRule, RowConverter, Tally
from ftl_runner.data.encode import IGNORE_INDEX
from ftl_runner.data.parts import length_rule, seed_of
from ftl_runner.data.report import PrepareReport, SourceReport
from ftl_runner.data.row_streams import open_streams
from ftl_runner.data.sources import find_source
from ftl_runner.data.splits import parse_rows
from ftl_runner.data.stream import Arrangement, StreamEntry, StreamSet, train_entries

if TYPE_CHECKING:
    from ftl_config import Config


def open_stream_set(config: Config, tokenizer: Any) -> StreamSet:
    """The training set of a streamed config.

    Raises:
        DataError: no such file or dataset, an unknown type, or a source that cannot be streamed.
    """
    data = config.data
    seed = seed_of(config)
    rule = length_rule(data, data.sequence_len)
    shuffle = data.shuffle_merged_datasets and not data.curriculum_sampling
    packs = data.sample_packing
    arrangement = Arrangement(
        sequence_len=data.sequence_len,
        seed=seed,
        shuffle=shuffle,
        pack=packs,
        isolate=data.pretrain_multipack_attn or not data.pretraining_dataset,
        concatenate=bool(data.pretraining_sample_concatenation),
        max_rows=data.sample_packing_bin_size,
        in_order=data.sample_packing_sequentially or not shuffle,
    )
    entries = [_entry(spec, config, tokenizer, rule) for spec in train_entries(config)]
    return StreamSet(entries, arrangement, data.streaming_multipack_buffer_size, skip_bad_rows=data.skip_bad_rows)


def _entry(spec: DatasetSpec, config: Config, tokenizer: Any, rule: LengthRule) -> StreamEntry:
    source = find_source(spec)
    start, stop = parse_rows(source.part, source.name)
    return StreamEntry(
        streams=open_streams(source.origins),
        converter=RowConverter(spec, config.data, tokenizer, rule),
        weight=1.0 if spec.weight is None else spec.weight,
        start=start + (spec.skip or 0),
        stop=stop,
        shards=spec.shards or 1,
        shard=spec.shards_idx or 0,
    )


def try_stream(stream: StreamSet, config: Config) -> tuple[StreamSet, PrepareReport]:
    """The stream with a sample of its training rows, and a report on the first rows of the data.

    Raises:
        DataError: a bad row among them, or none that is trained on.
    """
    trial = replace(stream, buffer_size=1, tally=Tally())
    rows = trial.first_rows()
    shown = [{name: values.tolist() for name, values in row.items()} for row in rows]
    return replace(stream, sample=shown), _report(trial, rows, config)


def stream_lines(report: PrepareReport) -> list[str]:
    """What a report on the first rows of a stream says, for people."""
    names = ", ".join(source.name for source in report.sources)
    dropped = [f"{count:,} {reason.replace('_', ' ')}" for reason, count in report.rows_dropped.items()]
    lost = [f"WARNING: dropped of them: {', '.join(dropped)}"] if dropped else []
    return [
        f"streaming {names}: rows are tokenized while training goes on, nothing is prepared ahead",
        f"the first {report.rows_read:,} rows: {report.tokens:,} tokens, {report.trained_tokens:,} trained, in "
        f"{report.num_rows:,} training rows",
        *lost,
        *(f"WARNING: {warning}" for warning in report.warnings),
    ]


def test_set_config(config: Config) -> Config:
    """The config whose training set is this config's ``test_datasets``, prepared in their order."""
    data = config.data
    changes = {
        "datasets": data.test_datasets,
        "test_datasets": None,
        "pretraining_dataset": None,
        "streaming": False,
        "sequence_len": data.eval_sequence_len or data.sequence_len,
        "sample_packing": data.sample_packing if data.eval_sample_packing is None else data.eval_sample_packing,
        "shuffle_merged_datasets": False,
    }
    return config.model_copy(update={"data": data.model_copy(update=changes)})


def _report(sample: StreamSet, rows: list[dict[str, Any]], config: Config) -> PrepareReport:
    tally, capacity = sample.tally, config.data.sequence_len
    tokens = sum(len(row["input_ids"]) for row in rows)
    packed = sample.arrangement.pack
    warnings = dict.fromkeys(text for entry in sample.entries for text in entry.converter.warnings)
    return PrepareReport(
        fingerprint="",
        cache_hit=False,
        cache_path="",
        sources=tuple(_source(entry, spec) for entry, spec in zip(sample.entries, train_entries(config), strict=True)),
        rows_read=tally.rows_read,
        rows_dropped={reason: count for reason, count in tally.dropped.items() if count},
        tokens_dropped=dict(tally.dropped_tokens),
        tokens=tokens,
        trained_tokens=sum(int((row["labels"] != IGNORE_INDEX).sum()) for row in rows),
        num_sequences=tally.rows_read - sum(tally.dropped.values()) if packed else len(rows),
        num_bins=len(rows) if packed else None,
        packing_efficiency=tokens / (len(rows) * capacity) if packed else None,
        eval_sequences=0,
        eval_tokens=0,
        sequence_len=capacity,
        excess_length_strategy=config.data.excess_length_strategy or "drop",
        long_rows=tally.long_rows,
        long_tokens=tally.long_tokens,
        excess_tokens=tally.excess_tokens,
        masked_tokens=tally.masked_tokens,
        length_histogram=(),
        prepare_s=0.0,
        warnings=tuple(warnings),
        extra={"streamed": True},
    )


def _source(entry: StreamEntry, spec: DatasetSpec) -> SourceReport:
    template = entry.converter.template
    kind = spec.type if isinstance(spec.type, str) else "user_defined" if spec.type else "pretokenized"
    return SourceReport(spec.path or "", kind, 0, template.name if template else None)
