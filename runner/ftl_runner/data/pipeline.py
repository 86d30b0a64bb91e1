"""Config and tokenizer -> prepared training and evaluation sets, from the cache where they are there already."""

from __future__ import annotations

import hashlib
import inspect
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
from ftl_runner.data.build import BadRow, BuildOptions, Built, Entry, Progress, build
from ftl_runner.data.cache import DEFAULT_ROOT, REPORT_NAME, fingerprint_of, is_complete, locked, new_folder
from ftl_runner.data.convert import LengthRule, RowConverter, Tally
from ftl_runner.data.errors import DataError
from ftl_runner.data.formats.python_path import import_function
from ftl_runner.data.formats.registry import REGISTRY
from ftl_runner.data.report import LOUD_SHARE, PrepareReport, SourceReport
from ftl_runner.data.sources import Source, find_source

if TYPE_CHECKING:
    from datasets import Dataset

    from ftl_config import Config


@dataclass(frozen=True)
class Prepared:
    """Arrow-backed sets with columns input_ids, labels, length and, packed, position_ids."""

    train: Dataset
    eval: Dataset | None
    report: PrepareReport


@dataclass(frozen=True)
class _Part:
    """The entries of one key: ``datasets`` or ``test_datasets``."""

    specs: tuple[DatasetSpec, ...]
    sources: tuple[Source, ...]
    converters: tuple[RowConverter, ...]


def prepare(
    config: Config,
    tokenizer: Any,
    *,
    cache_root: Path | None = None,
    on_progress: Callable[[str], None] | None = None,
    skip_bad_rows: bool = False,
) -> Prepared:
    """Prepare the data of a config; safe to call from many processes at once (one works, the others wait).

    Args:
        cache_root: where prepared sets are kept; ``dataset_prepared_path``, else ``last_run_prepared``, when None.
        on_progress: takes short lines such as ``tokenized 800 of 2,000 rows``.
        skip_bad_rows: leave bad rows out, count them and write them to ``rejected.jsonl`` beside the set.

    Raises:
        DataError: with file, row and fix.
    """
    say: Progress = on_progress or (lambda text: None)
    data = config.data
    if not data.datasets:
        raise DataError("no datasets", "datasets: a list of {path: ..., type: ...}")
    train = _part(config, tokenizer, data.datasets, data.sequence_len)
    test = _part(config, tokenizer, data.test_datasets or (), data.eval_sequence_len or data.sequence_len)
    fingerprint = _fingerprint(config, tokenizer, train, test, skip_bad_rows)
    root = (cache_root or Path(data.dataset_prepared_path or DEFAULT_ROOT)).expanduser().absolute()
    folder = root / fingerprint
    hit = is_complete(folder)
    if not hit:
        with locked(root, fingerprint):
            hit = is_complete(folder)
            if not hit:
                with new_folder(root, fingerprint) as fresh:
                    _fill(fresh, config, train, test, fingerprint, say, skip_bad_rows)
    prepared = load_prepared(folder, cache_hit=hit)
    for line in prepared.report.lines() if not hit else [f"prepared data found in {folder}"]:
        say(line)
    return prepared


def load_prepared(folder: Path, *, cache_hit: bool = True) -> Prepared:
    """The sets in a complete cache directory."""
    values = json.loads((folder / REPORT_NAME).read_text(encoding="utf-8"))
    rejected = folder / "rejected.jsonl"
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
    converters = tuple(RowConverter(spec, data, tokenizer, rule) for spec in specs)
    return _Part(tuple(specs), sources, converters)


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

_PLACE_KEYS = {"path", "data_files", "name", "revision", "chat_template", "chat_template_jinja"}
"""Keys of an entry that say where something is: the rows and the template's text count in their place."""


def _fingerprint(config: Config, tokenizer: Any, train: _Part, test: _Part, skip_bad_rows: bool) -> str:
    parts = [
        {
            "options": spec.model_dump(mode="json", exclude_none=True, exclude=_PLACE_KEYS),
            "rows": source.fingerprint(),
            "template": converter.template.source if converter.template else None,
            "code": _user_code(spec),
        }
        for part in (train, test)
        for spec, source, converter in zip(part.specs, part.sources, part.converters, strict=True)
    ]
    keys = {name: getattr(config.data, name) for name in _DATA_KEYS}
    return fingerprint_of([parts, len(train.specs), keys, _seed(config), tokenizer_hash(tokenizer), skip_bad_rows])


def _user_code(spec: DatasetSpec) -> str | None:
    """The source of the user's own format function: changing it changes the rows."""
    name = spec.type
    if not isinstance(name, str) or "." not in name or name in REGISTRY or name == "chat_template.default":
        return None
    try:
        return inspect.getsource(inspect.getmodule(import_function(name)) or import_function(name))
    except (OSError, TypeError):
        return name


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
    skip_bad_rows: bool,
) -> None:
    began = time.monotonic()
    scratch = folder / "scratch"
    scratch.mkdir()
    built = _tokenize(train, scratch / "train", config, say, skip_bad_rows)
    tested = _tokenize(test, scratch / "test", config, say, skip_bad_rows)
    store = TokenStore(built)
    rows, duplicates = _ordered(store, config)
    rows = _own_shard(rows, config)
    rows, held_back = split_rows(rows, float(config.data.val_set_size))
    if not len(rows):
        raise _nothing_left(built, config)
    say("writing the prepared set")
    written = write_set(store, rows, folder / "train.arrow", _pack_rule(config, evaluation=False))
    evaluated = None
    if tested:
        test_store = TokenStore(tested)
        numbers = np.arange(len(test_store), dtype=np.int64)
        evaluated = write_set(test_store, numbers, folder / "eval.arrow", _pack_rule(config, evaluation=True))
    elif len(held_back):
        evaluated = write_set(store, held_back, folder / "eval.arrow", _pack_rule(config, evaluation=True))
    bad_rows = [bad for part in (*built, *tested) for bad in part.bad_rows]
    _write_rejected(folder, bad_rows)
    report = _report(config, fingerprint, (train, test), (built, tested), written, evaluated)
    dropped = dict(report.rows_dropped)
    dropped.update({key: n for key, n in (("duplicate", duplicates), ("bad", len(bad_rows))) if n})
    report = replace(
        report,
        rows_dropped=dropped,
        length_histogram=_histogram(store, rows),
        prepare_s=round(time.monotonic() - began, 3),
    )
    shutil.rmtree(scratch)
    (folder / REPORT_NAME).write_text(json.dumps(report.to_dict(), indent=1), encoding="utf-8")


def _tokenize(part: _Part, scratch: Path, config: Config, say: Progress, skip_bad_rows: bool) -> list[Built]:
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
        skip_bad_rows=skip_bad_rows,
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
    bad = sum(len(part.bad_rows) for part in built)
    reasons = [f"{count:,} {reason.replace('_', ' ')}" for reason, count in tally.dropped.most_common()]
    reasons += [f"{bad:,} bad"] if bad else []
    hint = "a smaller val_set_size"
    if tally.dropped["too_long"]:
        hint = f"a larger sequence_len (now {config.data.sequence_len}), or excess_length_strategy: truncate"
    elif tally.dropped["no_trained_token"]:
        hint = "check roles, roles_to_train and the training fields of the messages"
    detail = f": {', '.join(reasons)}" if reasons else ""
    return DataError(f"no row is left to train on, of {tally.rows_read:,} read{detail}", hint)


def _write_rejected(folder: Path, bad_rows: Sequence[BadRow]) -> None:
    if not bad_rows:
        return
    with (folder / "rejected.jsonl").open("w", encoding="utf-8") as file:
        for bad in bad_rows:
            file.write(json.dumps({"place": bad.place, "error": bad.error.message, "hint": bad.error.hint}) + "\n")


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
        length_histogram=(),
        prepare_s=0.0,
        warnings=tuple(warnings),
    )
    if report.lost_share >= LOUD_SHARE:
        return replace(report, extra={"lost_share": round(report.lost_share, 4)})
    return report


def _sources(part: _Part, built: Sequence[Built]) -> list[SourceReport]:
    reports = []
    for number, (spec, source, converter) in enumerate(zip(part.specs, part.sources, part.converters, strict=True)):
        rows = sum(chunk.tally.rows_read for chunk in built if chunk.chunk.entry == number)
        kind = spec.type if isinstance(spec.type, str) else "user_defined" if spec.type else "pretokenized"
        reports.append(SourceReport(source.name, kind, rows, converter.template.name if converter.template else None))
    return reports


def _histogram(store: TokenStore, rows: Any) -> tuple[tuple[int, int], ...]:
    lengths = store.lengths[rows]
    tops = 2 ** np.arange(4, int(np.ceil(np.log2(max(17, lengths.max())))) + 1)
    counts = np.histogram(lengths, bins=[0, *(tops + 1)])[0]
    return tuple((int(top), int(count)) for top, count in zip(tops, counts, strict=True))
