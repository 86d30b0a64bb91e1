"""Config and tokenizer -> prepared training and evaluation sets, from the cache where they are there already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_runner.data.build import Progress
from ftl_runner.data.cache import cache_places, is_complete, locked, new_folder
from ftl_runner.data.errors import DataError
from ftl_runner.data.fill import fill
from ftl_runner.data.fingerprint import fingerprint
from ftl_runner.data.formats.preference_registry import kind_of
from ftl_runner.data.open_stream import open_stream_set, stream_lines, test_set_config, try_stream
from ftl_runner.data.parts import Parts
from ftl_runner.data.preference.rewards import load_reward_functions
from ftl_runner.data.prepared import Prepared, load_prepared
from ftl_runner.data.push import push_once
from ftl_runner.data.report import ReportLine
from ftl_runner.data.shared_cache import SharedCache
from ftl_runner.data.stream import is_streamed

if TYPE_CHECKING:
    from ftl_config import Config


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
    parts = Parts.of(config, tokenizer)
    name = fingerprint(config, tokenizer, parts)
    root, shared_uri = cache_places(data.dataset_prepared_path, cache_root, shared_uri)
    folder = root / name
    hit = is_complete(folder)
    if not hit or shared_uri or data.push_dataset_to_hub:
        with locked(root, name):
            hit = _ensure(config, parts, root / name, SharedCache(shared_uri) if shared_uri else None, say)
            if data.push_dataset_to_hub:
                push_once(load_prepared(folder).splits(), data.push_dataset_to_hub, root, name, say)
    prepared = load_prepared(folder, cache_hit=hit)
    for line in prepared.report.lines() if not hit else [f"prepared data found in {folder}"]:
        say(ReportLine(line))
    return prepared


def _ensure(config: Config, parts: Parts, folder: Path, shared: SharedCache | None, say: Progress) -> bool:
    """Have the set here, and where sets are shared; whether it was there before. The lock is held."""
    root, name = folder.parent, folder.name
    hit = is_complete(folder) or (shared is not None and shared.fetch(name, root))
    if not hit:
        with new_folder(root, name) as fresh:
            fill(fresh, config, parts, name, say)
    if shared is not None:
        shared.publish(name, folder, say)
    return hit


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
