"""Datasets on the Hugging Face hub, through the datasets library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ftl_config.schema.data import DatasetSpec
from ftl_runner.data.errors import DataError
from ftl_runner.data.row_readers import ArrowRows, Reader


def find_on_hub(spec: DatasetSpec, path: str, data_files: Sequence[str], split: str) -> Iterator[HubDataset]:
    """One origin a configuration (``name`` may be a list)."""
    names: tuple[str | None, ...] = (
        (spec.name,) if isinstance(spec.name, str) or spec.name is None else tuple(spec.name)
    )
    for name in names:
        yield HubDataset(path, name, split, spec.revision, tuple(data_files))


@dataclass(frozen=True)
class HubDataset:
    """A split of one configuration of a hub dataset; loaded at first use, from the library's cache if it is there."""

    path: str
    config: str | None
    split: str
    revision: str | None
    data_files: tuple[str, ...]

    @cached_property
    def _dataset(self) -> Any:
        return self._load(streaming=False)

    def _load(self, *, streaming: bool) -> Any:
        from datasets import load_dataset

        try:
            return load_dataset(
                self.path,
                name=self.config,
                split=self.split,
                revision=self.revision,
                data_files=list(self.data_files) or None,
                streaming=streaming,
            )
        except Exception as error:  # the library raises a dozen kinds, from requests, hub and itself
            raise _explain(self.path, self.config, error) from error

    def batches(self, size: int) -> Iterator[dict[str, list[Any]]]:
        """Columns of ``size`` rows at a time, read from the hub as they are needed."""
        try:
            yield from self._load(streaming=True).iter(batch_size=size)
        except (DataError, GeneratorExit):
            raise
        except Exception as error:
            raise _explain(self.path, self.config, error) from error

    @property
    def title(self) -> str:
        """What the user calls it."""
        name = f"{self.path} ({self.config})" if self.config else self.path
        return f"{name}, split {self.split}"

    def fingerprint(self) -> str:
        """The commit on the hub where it can be asked, else what the library calls the loaded data."""
        commit = self._commit() or self._dataset._fingerprint
        return f"hub:{self.path}:{self.config}:{self.split}:{self.data_files}:{commit}"

    def _commit(self) -> str | None:
        from huggingface_hub import HfApi

        try:
            sha = HfApi().dataset_info(self.path, revision=self.revision, timeout=20).sha
            return str(sha) if sha else None
        except Exception:  # offline, or no access: the loaded data tells
            return None

    def open(self, scratch: Path) -> Reader:
        return ArrowRows(self._dataset, self.title)


def _explain(path: str, config: str | None, error: Exception) -> DataError:
    kind, text = type(error).__name__, str(error).strip().splitlines()[0] if str(error).strip() else ""
    if any(sign in f"{kind} {text}".lower() for sign in ("gated", "authenticated", "401", "403")):
        hint = "it needs a token with access: set HF_TOKEN in the environment"
    elif "NotFound" in kind or "doesn't exist" in text or "404" in text:
        hint = "nothing here or on the hub has that name: check the spelling (a private dataset needs HF_TOKEN)"
    elif "Offline" in kind or "Connection" in kind or "connect" in text.lower():
        hint = f"no file or directory {path} here, and the hub cannot be reached"
    elif "Config name is missing" in text:
        hint = "choose one with name:"
    else:
        hint = "check path, name, split and revision"
    return DataError(f"dataset {path}{f' ({config})' if config else ''} cannot be loaded: {kind}: {text}", hint)
