"""``added_tokens_overrides``: give reserved tokens a text of one's own; the vocabulary keeps its size.

A tokenizer has no way to rename a token, so its files are written, edited and read again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ftl_runner.models.errors import ModelError

_MOST_NAMES = 12


def rename_tokens(tokenizer: Any, texts: Mapping[int, str], load: Callable[[str], Any]) -> Any:
    """The tokenizer with the added tokens of those ids called otherwise.

    Args:
        texts: id to new text.
        load: reads a tokenizer from a folder, as this one was read.

    Raises:
        ModelError: an id that is no added token's, or a text that another token has.
    """
    renamed = {_present(tokenizer, number): text for number, text in texts.items()}
    vocabulary = tokenizer.get_vocab()
    for number, text in texts.items():
        if vocabulary.get(text, number) != number or list(texts.values()).count(text) > 1:
            other = vocabulary.get(text, "another one")
            raise ModelError(f"added_tokens_overrides: {number}: {text!r} is token {other} already", exit_code=2)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for name, parts in (("tokenizer.json", ("added_tokens", "post_processor")), ("tokenizer_config.json", None)):
            _edit(Path(folder) / name, renamed, parts)
        again = load(folder)
    again.name_or_path = tokenizer.name_or_path
    for number, text in texts.items():
        assert again.convert_ids_to_tokens(number) == text, f"token {number} was not renamed"
    return again


def _present(tokenizer: Any, number: int) -> str:
    """The text that an added token has now."""
    added = tokenizer.added_tokens_decoder
    if number not in added:
        names = [f"{known} ({token.content})" for known, token in sorted(added.items())]
        reserved = [name for name in names if "reserved" in name or "unused" in name] or names
        more = f" and {len(reserved) - _MOST_NAMES} more" if len(reserved) > _MOST_NAMES else ""
        raise ModelError(
            f"added_tokens_overrides: {number} is not the id of an added token of this tokenizer",
            f"there are {', '.join(reserved[:_MOST_NAMES])}{more}",
            exit_code=2,
        )
    return str(added[number].content)


def _edit(path: Path, renamed: Mapping[str, str], parts: tuple[str, ...] | None) -> None:
    """Replace texts in some parts of a JSON file (None: all of it), and in the vocabulary where there is one."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for part in parts or tuple(content):
        content[part] = _replaced(content.get(part), renamed)
    vocabulary = content.get("model", {}).get("vocab")
    if isinstance(vocabulary, dict):  # others list pieces with their weight, and added tokens apart
        content["model"]["vocab"] = {renamed.get(text, text): number for text, number in vocabulary.items()}
    elif vocabulary:
        content["model"]["vocab"] = [[renamed.get(text, text), weight] for text, weight in vocabulary]
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _replaced(value: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return renamed.get(value, value)
    if isinstance(value, list):
        return [_replaced(each, renamed) for each in value]
    if isinstance(value, dict):
        return {renamed.get(key, key): _replaced(each, renamed) for key, each in value.items()}
    return value
