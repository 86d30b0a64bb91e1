"""Short ways to make files, configs and rows for the tests of the data room."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ftl_config import Config, load_config


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def make_config(*datasets: Mapping[str, Any], folder: Path, **keys: Any) -> Config:
    """A loaded config, through YAML as users write it."""
    import yaml

    values = {
        "base_model": "some/model",
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-4,
        "sequence_len": 256,
        "datasets": list(datasets),
        **keys,
    }
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return load_config(str(path)).config


def chat_row(*contents: str, system: str | None = None) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    return {"messages": [{"role": "system", "content": system}, *messages] if system else messages}


def text_of(tokenizer: Any, ids: Iterable[int]) -> str:
    """What ids stand for, to the byte (decoding them together mangles bytes beside some special tokens)."""
    special = {number: added.content for number, added in tokenizer.added_tokens_decoder.items()}
    parts: list[str] = []
    run: list[int] = []
    for number in [*ids, None]:
        if number is not None and number not in special:
            run.append(number)
            continue
        parts.append(tokenizer.decode(run, clean_up_tokenization_spaces=False) if run else "")
        parts.append(special[number] if number is not None else "")
        run = []
    return "".join(parts)


def trained_text(tokenizer: Any, row: Any) -> str:
    """The text of a row's trained tokens."""
    pairs = zip(row.input_ids.tolist(), row.labels.tolist(), strict=True)
    return text_of(tokenizer, [token for token, label in pairs if label != -100])
