"""What rows come from: one file or table, of which others may be elsewhere (remote.py, hub.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ftl_runner.data.errors import DataError
from ftl_runner.data.files import LocalFile
from ftl_runner.data.row_readers import ArrowRows, Reader


class Origin(Protocol):
    """One file or table that rows come from."""

    def fingerprint(self) -> str:
        """Changes when the rows change."""
        ...

    def open(self, scratch: Path) -> Reader:
        """Ready to read; ``scratch`` takes unpacked and downloaded files."""
        ...


@dataclass(frozen=True)
class SavedDataset:
    """A directory that ``Dataset.save_to_disk`` wrote."""

    folder: Path

    def fingerprint(self) -> str:
        files = sorted(self.folder.glob("*.arrow"))
        return "+".join(LocalFile(path, path.name, "arrow").fingerprint() for path in files)

    def open(self, scratch: Path) -> Reader:
        return self.open_mapped()

    def open_mapped(self) -> Reader:
        """The rows; their files are mapped into memory, not read."""
        from datasets import load_from_disk

        try:
            dataset: Any = load_from_disk(str(self.folder))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder} is not a saved dataset: {error}") from error
        return ArrowRows(dataset, str(self.folder))
