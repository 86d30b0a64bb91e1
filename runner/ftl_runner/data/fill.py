"""Rows -> the files of a prepared set: tokenize, order, split, pack, write, report."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ftl_runner.data.assemble import PackRule, TokenStore, Written, order_rows, split_rows, write_set
from ftl_runner.data.build import BuildOptions, Built, Entry, Progress, build
from ftl_runner.data.cache import REPORT_NAME
from ftl_runner.data.convert import Tally
from ftl_runner.data.errors import DataError
from ftl_runner.data.formats.preference_registry import kind_of
from ftl_runner.data.length_bins import even_bins, power_bins
from ftl_runner.data.parts import Part, Parts, seed_of
from ftl_runner.data.preference.write import write_preference_set
from ftl_runner.data.prepared import REJECTED_NAME
from ftl_runner.data.summary import make_report

if TYPE_CHECKING:
    from ftl_config import Config


def fill(folder: Path, config: Config, parts: Parts, name: str, say: Progress) -> None:
    """Write the sets of a config and their report into an empty directory.

    Args:
        name: the set's fingerprint, for the report.

    Raises:
        DataError: a bad row, or no row to train on.
    """
    began = time.monotonic()
    scratch = folder / "scratch"
    scratch.mkdir()
    built = _tokenize(parts.train, scratch / "train", config, say)
    tested = _tokenize(parts.test, scratch / "test", config, say)
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
    num_bad = _gather_rejected(folder / REJECTED_NAME, (*built, *tested))
    report = make_report(config, name, parts, (built, tested), (written, evaluated))
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


def _tokenize(part: Part, scratch: Path, config: Config, say: Progress) -> list[Built]:
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
        seed_of(config),
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
    return PackRule(capacity, seed_of(config), data.sample_packing_bin_size, in_order)


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
