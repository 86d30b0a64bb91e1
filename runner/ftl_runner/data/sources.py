"""Where the rows of a ``datasets:`` entry come from: local files and directories, saved sets, URLs, the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ftl_config.schema.data import DatasetSpec
from ftl_runner.data.errors import DataError, did_you_mean
from ftl_runner.data.files import KINDS, LocalFile, file_kind
from ftl_runner.data.origins import Origin, SavedDataset
from ftl_runner.data.remote import find_remote
from ftl_runner.data.row_readers import Joined, Picked, Reader
from ftl_runner.data.splits import of_split, parse_slice, split_name
from ftl_runner.data.synthetic import SYNTHETIC, make_synthetic


@dataclass(frozen=True)
class Source:
    """All origins of a dataset entry, with the part of them that is used."""

    name: str
    origins: tuple[Origin, ...]
    part: str
    """Slice of a split (``:10%``), empty for everything."""
    shards: tuple[int, int] | None = None
    """Number of shards and which one."""
    seed: int = 42
    skip: int = 0
    """Rows left out at the start."""
    weight: float | None = None
    """How often the rows are used: 2 takes each of them twice, 0.5 a random half."""

    def fingerprint(self) -> list[str]:
        """One string an origin, and what is taken of them."""
        drawn = f"{self.shards}:{self.weight}:{self.seed}" if self.shards or self.weight is not None else ""
        return [*(origin.fingerprint() for origin in self.origins), f"{self.part}:{self.skip}:{drawn}"]

    def open(self, scratch: Path) -> Reader:
        """A reader of the rows that are used.

        Raises:
            DataError: no rows, or a file that cannot be read.
        """
        reader: Reader = Joined(tuple(origin.open(scratch) for origin in self.origins))
        if self.part:
            start, stop = parse_slice(self.part, len(reader), self.name)
            reader = Picked(reader, np.arange(start, stop, dtype=np.int64))
        if self.skip:
            reader = Picked(reader, np.arange(min(self.skip, len(reader)), len(reader), dtype=np.int64))
        if self.shards:
            count, number = self.shards
            order = np.random.default_rng(self.seed).permutation(len(reader))
            reader = Picked(reader, np.sort(np.array_split(order, count)[number]).astype(np.int64))
        if self.weight is not None:
            reader = Picked(reader, _weighted(len(reader), self.weight, self.seed))
        if len(reader) == 0:
            hint = f"skip: {self.skip} leaves none" if self.skip else "a dataset needs at least one"
            raise DataError(f"{self.name} has no rows", hint)
        return reader


def _weighted(count: int, weight: float, seed: int) -> npt.NDArray[np.int64]:
    """Row numbers in order, each as often as the weight's whole part says, and a random share of them once more."""
    whole = int(weight)
    extra = round((weight - whole) * count)
    drawn = np.random.default_rng(seed).permutation(count)[:extra]
    return np.sort(np.concatenate([np.repeat(np.arange(count), whole), drawn])).astype(np.int64)


def find_source(spec: DatasetSpec, seed: int = 42) -> Source:
    """Where an entry's rows are; nothing but names is read yet.

    Raises:
        DataError: no such file or dataset.
    """
    path = spec.path or (SYNTHETIC if spec.type == SYNTHETIC else None)
    if not path:
        raise DataError("a dataset has no path", "path: a file, a directory, a URL or a hub id")
    split, part = split_name(spec.split or "train")
    origins = tuple(_find_origins(spec, path, split))
    shards = (spec.shards, spec.shards_idx or 0) if spec.shards else None
    if shards and shards[1] >= shards[0]:
        raise DataError(f"{path}: shards_idx {shards[1]} of {shards[0]} shards", "they count from 0")
    return Source(path, origins, part, shards, seed, spec.skip or 0, spec.weight)


def _find_origins(spec: DatasetSpec, path: str, split: str) -> Iterator[Origin]:
    if spec.type == SYNTHETIC:
        yield make_synthetic(spec)
        return
    data_files = [spec.data_files] if isinstance(spec.data_files, str) else list(spec.data_files or ())
    if "://" in path:
        yield from find_remote(path, data_files, split, spec.ds_type)
        return
    if path in KINDS.values() and data_files and not Path(path).exists():
        for name in data_files:  # the datasets library's way: path: json, data_files: [...]
            yield from _local_file(Path(name).expanduser(), spec.ds_type or path)
        return
    local = Path(path).expanduser()
    if local.is_dir():
        yield from _directory(local, data_files, split, spec.ds_type)
    elif local.exists():
        yield from _local_file(local, spec.ds_type)
    elif _is_hub_id(path):
        from ftl_runner.data.hub import find_on_hub

        yield from find_on_hub(spec, path, data_files, split)
    else:
        raise _missing(local)


def _local_file(path: Path, ds_type: str | None) -> Iterator[Origin]:
    if not path.exists():
        raise _missing(path)
    kind = file_kind(path.name, ds_type)
    if kind is None:
        kind = "json"  # Axolotl's default for a name that tells nothing
    yield LocalFile(path, str(path), kind)


def _missing(path: Path) -> DataError:
    folder = path.parent
    if not folder.is_dir():
        return DataError(f"no dataset at {path}", f"the directory {folder} does not exist")
    close = did_you_mean(path.name, (entry.name for entry in folder.iterdir()), cutoff=0.5)
    return DataError(f"no dataset at {path}", close or f"paths are relative to {Path.cwd()}")


def _directory(folder: Path, data_files: Sequence[str], split: str, ds_type: str | None) -> Iterator[Origin]:
    if data_files:
        for pattern in data_files:
            found = sorted(folder.glob(pattern)) if any(sign in pattern for sign in "*?[") else [folder / pattern]
            for path in found or [folder / pattern]:
                yield from _local_file(path, ds_type)
        return
    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        yield from _saved_dataset(folder, split)
        return
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not _hidden(p, folder) and file_kind(p.name)]
    if ds_type:
        files = [path for path in files if file_kind(path.name) == file_kind("", ds_type)]
    if not files:
        raise DataError(f"no data files in {folder}", f"known endings: {', '.join(KINDS)}, and .gz or .zst behind them")
    for path in of_split(files, split, str(folder)):
        yield from _local_file(path, ds_type)


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts) or path.name.lower() == "readme.md"


def _saved_dataset(folder: Path, split: str) -> Iterator[Origin]:
    if (folder / "dataset_dict.json").exists():
        if not (folder / split).is_dir():
            splits = [entry.name for entry in sorted(folder.iterdir()) if entry.is_dir()]
            raise DataError(f"{folder} has no split {split!r}", f"it has: {', '.join(splits)}; choose one with split:")
        folder = folder / split
    yield SavedDataset(folder)


def _is_hub_id(path: str) -> bool:
    looks_so = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) is not None
    return looks_so and not path.startswith(".") and file_kind(path) is None
