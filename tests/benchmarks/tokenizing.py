"""Preparing against the raw tokenizer, and packing's share: how much of the physical limit is left.

The limit is ``tokenizers``' ``encode_batch_fast`` over the same texts, rendered before, on all cores. Ours is what
``prepare`` does from opening the file to the written set: reading, rendering, tokenizing, masks, packing, writing.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import rows
from tests.benchmarks.preprocess import CHATS, SEQUENCE_LEN, ours
from tests.benchmarks.settings import FOLDER, ROOT, model, num_runs

_BATCH = 1000


def raw(data: Path) -> dict[str, Any]:
    """Seconds and tokens of the tokenizer alone; packing of what fits, for the lengths are at hand here."""
    from transformers import AutoTokenizer

    from ftl_runner.data.pack import pack

    tokenizer = AutoTokenizer.from_pretrained(model())
    with data.open(encoding="utf-8") as file:
        texts = [tokenizer.apply_chat_template(json.loads(line)["messages"], tokenize=False) for line in file]
    encode_s, lengths = 0.0, []
    for start in range(0, len(texts), _BATCH):
        began = time.perf_counter()
        encodings = tokenizer.backend_tokenizer.encode_batch_fast(
            texts[start : start + _BATCH], add_special_tokens=False
        )
        encode_s += time.perf_counter() - began
        lengths += map(len, encodings)
    fitting = np.array([length for length in lengths if length <= SEQUENCE_LEN])
    began = time.perf_counter()
    packing = pack(fitting, SEQUENCE_LEN, 42, max_rows=200)
    pack_s = time.perf_counter() - began
    return {"s": encode_s, "tokens": sum(lengths), "pack_s": pack_s, "bins": len(packing)}


def prepared(data: Path) -> dict[str, Any]:
    """Seconds, tokens and packing of ``prepare``."""
    from ftl_config import load_config
    from ftl_runner.data import prepare
    from ftl_runner.models.tokenizer import load_tokenizer

    config = load_config(ours(data, "chat_template").argv[2]).config
    root = FOLDER / "tokenizing"
    shutil.rmtree(root, ignore_errors=True)
    report = prepare(config, load_tokenizer(config), cache_root=root).report
    tokens = report.tokens + sum(report.tokens_dropped.values())
    return {"s": report.prepare_s, "tokens": tokens, "full": report.packing_efficiency, "bins": report.num_bins}


def _apart(name: str, data: Path) -> dict[str, Any]:
    """In a process of its own: the tokenizer's cache of words is warm after the first run."""
    code = f"import json; from pathlib import Path; from tests.benchmarks.tokenizing import {name} as f; "
    code += f"print(json.dumps(f(Path({str(data)!r}))))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env={**os.environ})
    if result.returncode:
        raise SystemExit(result.stderr[-2000:])
    values: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return values


def main() -> None:
    data = rows.write(FOLDER / "chats-20000.jsonl", rows.chats(CHATS))
    pairs = [(_apart("prepared", data), _apart("raw", data)) for _ in range(num_runs(3))]
    for mine, limit in pairs:
        if mine["tokens"] != limit["tokens"] or mine["bins"] != limit["bins"]:
            raise SystemExit(f"not the same work: {mine} {limit}")
    share = statistics.median(limit["s"] / mine["s"] for mine, limit in pairs)
    mine, limit = pairs[-1]
    print(f"preparing {CHATS:,} chats, {mine['tokens']:,} tokens")
    print(f"  prepare {statistics.median(a['s'] for a, _ in pairs):7.2f} s, with masks, packing and writing")
    print(f"  raw     {statistics.median(b['s'] for _, b in pairs):7.2f} s, tokenizers alone")
    print(f"  ratio   {share:7.2f} of the raw tokenizer's speed (median of {len(pairs)} pairs)")
    pack_share = statistics.median(b["pack_s"] / a["s"] for a, b in pairs)
    print(f"packing: {100 * mine['full']:.2f} % full at {SEQUENCE_LEN}, {100 * pack_share:.2f} % of the time")


if __name__ == "__main__":
    main()
