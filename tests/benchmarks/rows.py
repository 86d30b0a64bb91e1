"""Rows to prepare: chats and instructions of real words, as long as people's data are, the same for the same seed.

The words are those of Python's own documentation and library, which every machine that runs this has. Lengths are
lognormal, fitted to a public chat set: 680 tokens a chat (SmolLM2's tokenizer), 4 % of the chats over 2,048. A tenth of
the messages have letters and signs beyond ASCII.
"""

from __future__ import annotations

import json
import random
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

_CHARS_A_CHAT = 1_760  # median; the mean is e^(sigma^2/2) of it
_SIGMA = 0.88
_BEYOND_ASCII = (
    "na\u00efve caf\u00e9 \u2014 d\u00e9j\u00e0 vu",
    "\u4f60\u597d\uff0c\u8bf7\u5e2e\u6211\u770b\u4e00\u4e0b",
    "\u043f\u0440\u0438\u0432\u0435\u0442, \u043a\u0430\u043a \u0434\u0435\u043b\u0430?",
    "\U0001f600\U0001f44d\U0001f3fd \u2705",
    "\u201cstra\u00dfe\u201d \u2026 \u20ac 12",
)


@cache
def _library() -> str:
    """Prose (Python's manual and the docstrings of its library) and, for a quarter, code: 3 MB of ASCII."""
    from pydoc_data.topics import topics

    folder = Path(sysconfig.get_paths()["stdlib"])
    left_out = {"site-packages", "dist-packages", "test", "tests", "encodings", "pydoc_data", "lib2to3"}
    files = [path for path in sorted(folder.rglob("*.py")) if not left_out & set(path.parts)]
    texts = [path.read_text(encoding="utf-8", errors="ignore") for path in files]
    docstrings = [part for text in texts for part in text.split('"""')[1::2]]
    prose = "\n".join([*topics.values(), *docstrings])
    code = "\n".join(text[:8_000] for text in texts)[: len(prose) // 3]
    return (prose + code).encode("ascii", "ignore").decode()


def _passage(generator: random.Random, chars: int) -> str:
    """About ``chars`` characters of running text, from a word's beginning to a word's end."""
    text = _library()
    start = text.index(" ", generator.randrange(len(text) - chars - 10_000)) + 1
    stop = text.find(" ", start + chars)
    passage = text[start : stop if stop > 0 else start + chars].strip() or "Why?"
    return f"{passage} {generator.choice(_BEYOND_ASCII)}" if generator.random() < 0.1 else passage


def chat(generator: random.Random, exchanges: int | None = None, chars: int | None = None) -> dict[str, Any]:
    """A conversation: a third with a system message, one to six exchanges, answers three times as long as questions."""
    total = chars or min(60_000, int(generator.lognormvariate(0, _SIGMA) * _CHARS_A_CHAT) + 60)
    count = exchanges or min(6, 1 + int(generator.expovariate(0.7)), 1 + total // 200)
    messages = []
    if exchanges is None and generator.random() < 1 / 3:
        messages.append({"role": "system", "content": _passage(generator, min(120, total // 4))})
    for _ in range(count):
        share = total / count * generator.uniform(0.6, 1.4)
        for role, part in (("user", 0.25), ("assistant", 0.75)):
            messages.append({"role": role, "content": _passage(generator, int(share * part) + 8)})
    return {"messages": messages}


def instruction(generator: random.Random) -> dict[str, Any]:
    """An alpaca row; two in five have an input."""
    given = _passage(generator, generator.randrange(40, 400)) if generator.random() < 0.4 else ""
    answer = min(8_000, int(generator.lognormvariate(0, 0.9) * 200) + 10)
    return {
        "instruction": _passage(generator, generator.randrange(30, 120)),
        "input": given,
        "output": _passage(generator, answer),
    }


def chats(rows: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """``rows`` conversations."""
    generator = random.Random(seed)
    return (chat(generator) for _ in range(rows))


def long_and_short(tokens: int, exchanges: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Conversations of so many exchanges, 300 characters each, about ``tokens`` tokens in all."""
    generator = random.Random(seed)
    chars = 300 * exchanges
    return (chat(generator, exchanges, chars) for _ in range(tokens * 3 // chars))


def instructions(rows: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """``rows`` alpaca rows."""
    generator = random.Random(seed)
    return (instruction(generator) for _ in range(rows))


def write(path: Path, rows: Iterator[dict[str, Any]]) -> Path:
    """One JSON object a line; a file that is there already is kept (the rows are the same for the same arguments)."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        part.rename(path)
    return path


def main(arguments: Sequence[str]) -> None:
    kind, count, path = arguments
    write(Path(path), {"chat": chats, "alpaca": instructions}[kind](int(count)))


if __name__ == "__main__":
    main(sys.argv[1:])
