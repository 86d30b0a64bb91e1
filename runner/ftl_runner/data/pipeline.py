"""Config and tokenizer -> prepared training and evaluation sets, from the cache where they are there already."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ftl_config.schema.data import DatasetSpec
from ftl_runner.data.assemble import PackRule, TokenStore, Written, order_rows, split_rows, write_set
from ftl_runner.data.build import BuildOptions, Built, Entry, Progress, build
from ftl_runner.data.cache import REPORT_NAME, cache_places, fingerprint_of, is_complete, locked, new_folder
from ftl_runner.data.convert import LengthRule, RowConverter, Tally
from ftl_runner.data.errors import DataError
from ftl_runner.data.formats.preference_registry import Kind, is_own_function, kind_of
from ftl_runner.data.formats.python_path import source_of
from ftl_runner.data.formats.registry import REGISTRY
from ftl_runner.data.length_bins import bins_of, even_bins, power_bins
from ftl_runner.data.open_stream import open_stream_set, stream_lines, test_set_config, try_stream
from ftl_runner.data.preference.convert import PreferenceConverter
from ftl_runner.data.preference.rewards import load_reward_functions
from ftl_runner.data.preference.write import write_preference_set
from ftl_runner.data.push import push_once
from ftl_runner.data.report import LOUD_SHARE, PrepareReport, ReportLine, SourceReport
from ftl_runner.data.shared_cache import SharedCache
from ftl_runner.data.sources import Source, find_source
from ftl_runner.data.stream import is_streamed

if TYPE_CHECKING:
    from datasets import Dataset

    from ftl_config import Config


@dataclass(frozen=True)
class Prepared:
    """Arrow-backed sets with columns input_ids, labels, length and, packed, position_ids; or a stream to train on.

    Those of preference methods have the columns of ``preference/write.py``.
    """

    train: Any
    """A ``Dataset``, or the ``StreamSet`` of a streamed config."""
    eval: Dataset | None
    report: PrepareReport

    def splits(self) -> dict[str, Any]:
        """The sets by the hub's names of splits."""
        return {"train": self.train} | ({} if self.eval is None else {"validation": self.eval})


@dataclass(frozen=True)
class _Part:
    """The entries of one key: ``datasets`` or ``test_datasets``."""

    specs: tuple[DatasetSpec, ...]
    sources: tuple[Source, ...]
    converters: tuple[RowConverter | PreferenceConverter, ...]


def prepare(
    config: Config,
    tokenizer: Any,
    *,
    cache_root: Path | None = None,
    on_progress: Callable[[str], None] | None = None,
    shared_uri: str | None = None,
) -> Prepared:
    """Prepare the data of a config; safe to call from many processes at once (one works, the others wait).

    Args:
        cache_root: where prepared sets are kept; ``dataset_prepared_path``, else ``last_run_prepared``, when None.
        on_progress: takes short lines such as ``tokenized 800 of 2,000 rows``.
        shared_uri: where the run shares prepared sets with its later lives, unless ``dataset_prepared_path`` is a URI.

    Raises:
        DataError: with file, row and fix.
        StoreError: the place that sets are shared in cannot be used.
    """
    say: Progress = on_progress or (lambda text: None)
    data = config.data
    if is_streamed(config):
        return _prepare_stream(config, tokenizer, cache_root, say)
    if not data.datasets:
        raise DataError("no datasets", "datasets: a list of {path: ..., type: ...}")
    if kind_of(config) == "task":
        load_reward_functions(config)
    work = _Work(config, *_parts(config, tokenizer))
    fingerprint = _fingerprint(config, tokenizer, work.train, work.test)
    root, shared_uri = cache_places(data.dataset_prepared_path, cache_root, shared_uri)
    folder = root / fingerprint
    hit = is_complete(folder)
    if not hit or shared_uri or data.push_dataset_to_hub:
        with locked(root, fingerprint):
            hit = _ensure(work, root, fingerprint, SharedCache(shared_uri) if shared_uri else None, say)
            if data.push_dataset_to_hub:
                push_once(load_prepared(folder).splits(), data.push_dataset_to_hub, root, fingerprint, say)
    prepared = load_prepared(folder, cache_hit=hit)
    for line in prepared.report.lines() if not hit else [f"prepared data found in {folder}"]:
        say(ReportLine(line))
    return prepared


def fingerprint(config: Config, tokenizer: Any) -> str:
    """The name of the set that ``prepare`` makes of a config."""
    return _fingerprint(config, tokenizer, *_parts(config, tokenizer))


@dataclass(frozen=True)
class _Work:
    """What is to be prepared."""

    config: Config
    train: _Part
    test: _Part


def _ensure(work: _Work, root: Path, fingerprint: str, shared: SharedCache | None, say: Progress) -> bool:
    """Have the set here, and where sets are shared; whether it was there before. The lock is held."""
    hit = is_complete(root / fingerprint) or (shared is not None and shared.fetch(fingerprint, root))
    if not hit:
        with new_folder(root, fingerprint) as fresh:
            _fill(fresh, work.config, work.train, work.test, fingerprint, say)
    if shared is not None:
        shared.publish(fingerprint, root / fingerprint, say)
    return hit


def _parts(config: Config, tokenizer: Any) -> tuple[_Part, _Part]:
    data = config.data
    train = _part(config, tokenizer, data.datasets or (), data.sequence_len)
    return train, _part(config, tokenizer, data.test_datasets or (), data.eval_sequence_len or data.sequence_len)


def _prepare_stream(config: Config, tokenizer: Any, cache_root: Path | None, say: Progress) -> Prepared:
    """A training set that is read as it is needed; test_datasets are prepared as ever."""
    stream, report = try_stream(open_stream_set(config, tokenizer), config)
    for line in stream_lines(report):
        say(line)
    if not config.data.test_datasets:
        return Prepared(stream, None, report)
    tested = prepare(test_set_config(config), tokenizer, cache_root=cache_root, on_progress=say)
    report = replace(report, eval_sequences=tested.report.num_sequences, eval_tokens=tested.report.tokens)
    return Prepared(stream, tested.train, report)


def load_prepared(folder: Path, *, cache_hit: bool = True) -> Prepared:
    """The sets in a complete cache directory."""
    values = json.loads((folder / REPORT_NAME).read_text(encoding="utf-8"))
    rejected = folder / _REJECTED
    report = replace(
        PrepareReport.from_dict(values),
        cache_hit=cache_hit,
        cache_path=str(folder),
        rejected_path=str(rejected) if rejected.exists() else None,
    )
    return _PreparedFolder(folder, report)


class _PreparedFolder(Prepared):
    """Opens its sets when they are first asked for: ``ftl preprocess`` mostly wants the report alone, and importing
    datasets (which brings pandas) takes a second.
    """

    _folder: Path

    def __init__(self, folder: Path, report: PrepareReport) -> None:
        object.__setattr__(self, "_folder", folder)
        object.__setattr__(self, "report", report)

    @cached_property
    def train(self) -> Dataset:  # type: ignore[override]
        return self._open("train.arrow")

    @cached_property
    def eval(self) -> Dataset | None:  # type: ignore[override]
        return self._open("eval.arrow") if (self._folder / "eval.arrow").exists() else None

    def _open(self, name: str) -> Dataset:
        from datasets import Dataset

        return Dataset.from_file(str(self._folder / name))


def _part(config: Config, tokenizer: Any, specs: Sequence[DatasetSpec], sequence_len: int) -> _Part:
    data = config.data
    rule = LengthRule(sequence_len, data.excess_length_strategy or "drop", data.min_sample_len or 2)
    seed = _seed(config)
    sources = tuple(find_source(spec, seed) for spec in specs)
    converters = tuple(_converter(config, spec, tokenizer, rule) for spec in specs)
    return _Part(tuple(specs), sources, converters)


def _converter(
    config: Config, spec: DatasetSpec, tokenizer: Any, rule: LengthRule
) -> RowConverter | PreferenceConverter:
    kind = kind_of(config)
    if kind is None:
        return RowConverter(spec, config.data, tokenizer, rule)
    return PreferenceConverter(spec, config, tokenizer, rule, kind)


def _seed(config: Config) -> int:
    return 42 if config.training.seed is None else config.training.seed


_DATA_KEYS = (
    "val_set_size",
    "dataset_shard_num",
    "dataset_shard_idx",
    "dataset_exact_deduplication",
    "shuffle_merged_datasets",
    "shuffle_before_merging_datasets",
    "curriculum_sampling",
    "sequence_len",
    "eval_sequence_len",
    "excess_length_strategy",
    "min_sample_len",
    "max_prompt_len",
    "skip_bad_rows",
    "train_on_inputs",
    "chat_template_kwargs",
    "eot_tokens",
    "default_system_message",
    "sample_packing",
    "eval_sample_packing",
    "sample_packing_bin_size",
    "sample_packing_sequentially",
)
"""Keys of the data section that change the prepared sets, beside the entries, templates and texts themselves."""

_REJECTED = "rejected.jsonl"

_PLACE_KEYS = {"path", "data_files", "name", "revision", "chat_template", "chat_template_jinja"}
"""Keys of an entry that say where something is: the rows and the template's text count in their place."""

_IDLE_KEYS = {"split", "preprocess_shards", "trust_remote_code"}
"""Keys of an entry that change nothing, or (split) only which rows are read."""


def _fingerprint(config: Config, tokenizer: Any, train: _Part, test: _Part) -> str:
    kind = kind_of(config)
    parts = [
        {
            "options": spec.model_dump(mode="json", exclude_none=True, exclude=_PLACE_KEYS | _IDLE_KEYS),
            "rows": source.fingerprint(),
            "template": converter.template.source if converter.template else None,
            "code": _user_code(spec, kind),
        }
        for part in (train, test)
        for spec, source, converter in zip(part.specs, part.sources, part.converters, strict=True)
    ]
    data = config.data
    keys = {name: getattr(data, name) for name in _DATA_KEYS}
    keys["excess_length_strategy"] = data.excess_length_strategy or "drop"
    keys["min_sample_len"] = data.min_sample_len or 2
    keys["eval_sequence_len"] = data.eval_sequence_len or data.sequence_len
    keys["eval_sample_packing"] = data.sample_packing if data.eval_sample_packing is None else data.eval_sample_packing
    told = [parts, len(train.specs), keys, _seed(config), tokenizer_hash(tokenizer)]
    return fingerprint_of([*told, kind] if kind else told)


def _user_code(spec: DatasetSpec, kind: Kind | None) -> list[str]:
    """The source of the user's own functions: changing it changes the rows."""
    own = isinstance(spec.type, str) and "." in spec.type
    if own and (spec.type in REGISTRY if kind is None else not is_own_function(str(spec.type), kind)):
        own = False
    return [source_of(str(name)) for name in (spec.type if own else None, spec.input_transform) if name]


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash of everything in a tokenizer that changes tokens."""
    if tokenizer.is_fast:
        told = tokenizer.backend_tokenizer.to_str()
    else:
        told = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    special = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
    return hashlib.sha256(f"{type(tokenizer).__name__}{told}{special}".encode("utf-8", "surrogatepass")).hexdigest()


def _fill(
    folder: Path,
    config: Config,
    train: _Part,
    test: _Part,
    fingerprint: str,
    say: Progress,
) -> None:
    began = time.monotonic()
    scratch = folder / "scratch"
    scratch.mkdir()
    built = _tokenize(train, scratch / "train", config, say)
    tested = _tokenize(test, scratch / "test", config, say)
    store = TokenStore(built)
    rows, duplicates = _ordered(store, config)
    rows = _own_shard(rows, config)
    rows, held_back = split_rows(rows, float(config.data.val_set_size))
    if not len(rows):
        raise _nothing_left(built, config)
    say("writing the prepared set")
    written = _write(config, store, built, rows, folder / "train.arrow", evaluation=False)
    evaluated = None
    if tested:
        test_store = TokenStore(tested)
        numbers = np.arange(len(test_store), dtype=np.int64)
        evaluated = _write(config, test_store, tested, numbers, folder / "eval.arrow", evaluation=True)
    elif len(held_back):
        evaluated = _write(config, store, built, held_back, folder / "eval.arrow", evaluation=True)
    num_bad = _gather_rejected(folder / _REJECTED, (*built, *tested))
    report = _report(config, fingerprint, (train, test), (built, tested), written, evaluated)
    dropped = dict(report.rows_dropped)
    dropped.update({key: n for key, n in (("duplicate", duplicates), ("bad", num_bad)) if n})
    report = replace(
        report,
        rows_dropped=dropped,
        length_histogram=power_bins(store.lengths[rows]),
        length_bins=even_bins(store.lengths[rows], config.data.sequence_len),
        prepare_s=round(time.monotonic() - began, 3),
    )
    shutil.rmtree(scratch)
    (folder / REPORT_NAME).write_text(json.dumps(report.to_dict(), indent=1), encoding="utf-8")


def _tokenize(part: _Part, scratch: Path, config: Config, say: Progress) -> list[Built]:
    if not part.specs:
        return []
    scratch.mkdir()
    entries = []
    for source, converter in zip(part.sources, part.converters, strict=True):
        say(f"reading {source.name}")
        entries.append(Entry(source.name, source.open(scratch), converter))
    options = BuildOptions(
        scratch,
        processes=config.data.dataset_num_proc or available_cpus(),
        skip_bad_rows=config.data.skip_bad_rows,
        hash_rows=config.data.dataset_exact_deduplication,
    )
    built = build(entries, options, say)
    if not any(chunk.tally.rows_read for chunk in built):
        names = ", ".join(source.name for source in part.sources)
        raise DataError(f"{names} has no rows", "a dataset needs at least one")
    return built


def available_cpus() -> int:
    """Cores this process may use, with the container's CPU limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        limit = max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return cores
    return min(cores, limit)


def _ordered(store: TokenStore, config: Config) -> tuple[Any, int]:
    data = config.data
    return order_rows(
        store,
        _seed(config),
        shuffle=data.shuffle_merged_datasets and not data.curriculum_sampling,
        shuffle_entries=data.shuffle_before_merging_datasets,
        deduplicate=data.dataset_exact_deduplication,
    )


def _own_shard(rows: Any, config: Config) -> Any:
    count = config.data.dataset_shard_num
    return np.array_split(rows, count)[config.data.dataset_shard_idx or 0] if count else rows


def _write(
    config: Config, store: TokenStore, built: Sequence[Built], rows: Any, path: Path, *, evaluation: bool
) -> Written:
    kind = kind_of(config)
    if kind is not None:
        return write_preference_set(kind, store, built, rows, path)
    return write_set(store, rows, path, _pack_rule(config, evaluation=evaluation))


def _pack_rule(config: Config, *, evaluation: bool) -> PackRule | None:
    data = config.data
    packs, capacity = data.sample_packing, data.sequence_len
    if evaluation:
        packs = packs if data.eval_sample_packing is None else data.eval_sample_packing
        capacity = data.eval_sequence_len or capacity
    if not packs:
        return None
    in_order = data.sample_packing_sequentially or data.curriculum_sampling
    return PackRule(capacity, _seed(config), data.sample_packing_bin_size, in_order)


def _nothing_left(built: Sequence[Built], config: Config) -> DataError:
    tally = Tally()
    for part in built:
        tally.add(part.tally)
    bad = sum(part.num_bad for part in built)
    reasons = [f"{count:,} {reason.replace('_', ' ')}" for reason, count in tally.dropped.most_common()]
    reasons += [f"{bad:,} bad"] if bad else []
    hint = "a smaller val_set_size"
    if tally.dropped["too_long"]:
        hint = f"a larger sequence_len (now {config.data.sequence_len}), or excess_length_strategy: truncate"
    elif tally.dropped["no_trained_token"]:
        hint = "check roles, roles_to_train and the training fields of the messages"
    detail = f": {', '.join(reasons)}" if reasons else ""
    return DataError(f"no row is left to train on, of {tally.rows_read:,} read{detail}", hint)


def _gather_rejected(path: Path, built: Sequence[Built]) -> int:
    """Put the chunks' lists of bad rows into one file; how many rows they are."""
    lists = [part.rejected for part in built if part.rejected is not None]
    if lists:
        with path.open("wb") as file:
            for part in lists:
                file.write(part.read_bytes())
    return sum(part.num_bad for part in built)


def _report(
    config: Config,
    fingerprint: str,
    parts: tuple[_Part, _Part],
    built: tuple[Sequence[Built], Sequence[Built]],
    written: Written,
    evaluated: Written | None,
) -> PrepareReport:
    tally = Tally()
    for chunk in (*built[0], *built[1]):
        tally.add(chunk.tally)
    warnings = dict.fromkeys(text for part in parts for converter in part.converters for text in converter.warnings)
    if cut := tally.dropped_tokens["prompt_cut"]:
        warnings[f"prompts were cut to max_prompt_len {config.data.max_prompt_len}: {cut:,} tokens are lost"] = None
    report = PrepareReport(
        fingerprint=fingerprint,
        cache_hit=False,
        cache_path="",
        sources=tuple(report for part, chunks in zip(parts, built, strict=True) for report in _sources(part, chunks)),
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


def _sources(part: _Part, built: Sequence[Built]) -> list[SourceReport]:
    reports = []
    for number, (spec, source, converter) in enumerate(zip(part.specs, part.sources, part.converters, strict=True)):
        rows = sum(chunk.tally.rows_read for chunk in built if chunk.chunk.entry == number)
        kind = spec.type if isinstance(spec.type, str) else "user_defined" if spec.type else "pretokenized"
        reports.append(SourceReport(source.name, kind, rows, converter.template.name if converter.template else None))
    return reports
