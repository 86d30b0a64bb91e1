"""The base model's weights where they lie: single tensors, read by name from its safetensors files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftl_runner.models.errors import ModelError

if TYPE_CHECKING:
    import torch

    from ftl_config import Config

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"


@dataclass(frozen=True)
class BaseFiles:
    """The base model's safetensors files; ``files`` maps tensor names to file names."""

    folder: Path
    files: dict[str, str]

    def read(self, name: str) -> torch.Tensor:
        """One tensor, as it is on disk."""
        from safetensors import safe_open

        with safe_open(self.folder / self.files[name], framework="pt") as file:
            return file.get_tensor(name)

    def place(self, name: str, prefix: str) -> str | None:
        """The name on disk, which may lack the model's own prefix; None where there is no such tensor."""
        short = name.removeprefix(f"{prefix}.")
        return next((each for each in (name, short) if each in self.files), None)


def find_base_files(config: Config) -> BaseFiles:
    """The base's safetensors files, from a folder or the hub's cache.

    Raises:
        ModelError: the base is not in safetensors files.
    """
    from huggingface_hub import snapshot_download

    source = Path(str(config.model.base_model)).expanduser()
    if not source.is_dir():
        patterns = ["*.safetensors", INDEX_FILE]
        revision = config.model.model_revision
        source = Path(snapshot_download(str(config.model.base_model), revision=revision, allow_patterns=patterns))
    if (source / INDEX_FILE).is_file():
        index = json.loads((source / INDEX_FILE).read_text(encoding="utf-8"))
        return BaseFiles(source, dict(index["weight_map"]))
    if not (source / SINGLE_FILE).is_file():
        raise ModelError("the base model is not in safetensors files", "save it anew with save_pretrained")
    from safetensors import safe_open

    with safe_open(source / SINGLE_FILE, framework="pt") as file:
        return BaseFiles(source, dict.fromkeys(file.keys(), SINGLE_FILE))
