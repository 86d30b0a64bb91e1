"""An epoch of LoRA (r 16, all linear layers, fp32, length 1,024) on SmolLM2-135M beside Axolotl, LLaMA-Factory, TRL.

All train on the same chats, none of which is cut, once: the tokens are the same, so seconds compare. For each tool:
tokens a second of the training loop, seconds from the command's start to the loop with data in the cache, and peak
memory of all its processes. A first short run fills the caches.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import rows
from tests.benchmarks.memory import tree_mib
from tests.benchmarks.settings import BIN, FOLDER, OFFLINE, model, num_runs, peer

SEQUENCE_LEN, LONGEST, TOKENS = 1024, 900, 6_000
MICRO_BATCH = {True: 1, False: 2}
_BAR = re.compile(r"(?:^|[\r\n])\s*0%\|[^|]*\| 0/\d+ \[")
_RUNTIME = re.compile(r"train_runtime['\"]?\s*[:=]\s*'?([\d.]+)")
_INTERVAL_S = 0.1


@dataclass(frozen=True)
class Job:
    """One tool's command; ``loop_started`` looks at its output, ``train_s`` reads the seconds of its loop from it."""

    name: str
    argv: Sequence[str]
    folder: Path
    loop_started: Callable[[str], bool]
    train_s: Callable[[str], float]
    env: Mapping[str, str]


@dataclass(frozen=True)
class Figures:
    """``start_s`` up to the training loop, ``train_s`` of it, peak memory of all processes."""

    start_s: float
    train_s: float
    peak_mib: float


def measure(job: Job) -> Figures:
    """Run to the end; a run that fails is an error, not a figure."""
    shutil.rmtree(job.folder / "out", ignore_errors=True)
    log, peak, start_s = job.folder / "log.txt", 0.0, None
    with log.open("w") as stream:
        started = time.perf_counter()
        child = subprocess.Popen(
            job.argv, stdout=stream, stderr=stream, env={**os.environ, **OFFLINE, **job.env}, start_new_session=True
        )
        try:
            while child.poll() is None:
                if start_s is None and job.loop_started(log.read_text(errors="ignore")):
                    start_s = time.perf_counter() - started
                peak = max(peak, tree_mib(child.pid))
                time.sleep(_INTERVAL_S)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
    text = log.read_text(errors="ignore")
    if child.returncode or start_s is None:
        raise SystemExit(f"{job.name} failed ({child.returncode}):\n{text[-3000:]}")
    return Figures(start_s, job.train_s(text), peak)


def _shared_keys(data: Path, folder: Path, *, packed: bool, steps: int) -> dict[str, Any]:
    """Keys that ours and Axolotl read alike."""
    return {
        "base_model": str(model()),
        "datasets": [{"path": str(data), "ds_type": "json", "type": "chat_template"}],
        "dataset_prepared_path": str(folder / "prepared"),
        "output_dir": str(folder / "out"),
        "adapter": "lora",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "lora_target_linear": True,
        "sequence_len": SEQUENCE_LEN,
        "sample_packing": packed,
        "pad_to_sequence_len": False,
        "micro_batch_size": MICRO_BATCH[packed],
        "gradient_accumulation_steps": 1,
        "learning_rate": 2e-4,
        "optimizer": "adamw_torch",
        "lr_scheduler": "cosine",
        "attn_implementation": "sdpa",
        "bf16": False,
        "float32": True,
        "logging_steps": 1,
        "save_strategy": "no",
    } | ({"max_steps": steps} if steps > 0 else {"num_epochs": 1})


def _write(path: Path, values: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1))  # JSON is YAML
    return str(path)


def ours(program: str, data: Path, *, packed: bool, steps: int) -> Job:
    folder = FOLDER / "train-ftl"
    config = _write(folder / "config.yml", _shared_keys(data, folder, packed=packed, steps=steps))
    return Job(
        "ftl train",
        [program, "train", config],
        folder,
        lambda _: (folder / "out/events.jsonl").exists() and "train_start" in (folder / "out/events.jsonl").read_text(),
        lambda _: float(json.loads((folder / "out/metrics.json").read_text())["train_s"]),
        {},
    )


def _of_the_log(name: str, argv: Sequence[str], folder: Path, env: Mapping[str, str], start: str | None = None) -> Job:
    """A tool with transformers' last line, and its progress bar, or ``start``, where the loop begins."""

    def runtime(text: str) -> float:
        return float(_RUNTIME.findall(text)[0])  # a table of the same may follow in other units

    def started(text: str) -> bool:
        return start in text if start else _BAR.search(text) is not None

    return Job(name, argv, folder, started, runtime, env)


def axolotl(program: str, data: Path, *, packed: bool, steps: int) -> Job:
    folder = FOLDER / "train-axolotl"
    kernels = dict.fromkeys(("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel"), False)  # Triton's, for GPUs
    keys = _shared_keys(data, folder, packed=packed, steps=steps) | kernels
    argv = [program, "train", _write(folder / "config.yml", keys), "--launcher", "python"]
    # It may come without a progress bar; what it says half a second earlier is always there.
    return _of_the_log("axolotl train", argv, folder, {"HF_DATASETS_CACHE": str(folder / "cache")}, "Starting trainer")


def llamafactory(program: str, data: Path, *, packed: bool, steps: int) -> Job:
    folder = FOLDER / "train-llamafactory"
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    chat = {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": {**tags, "system_tag": "system"}}
    _write(folder / "dataset_info.json", {"chats": {"file_name": str(data), **chat}})
    keys = {
        "model_name_or_path": str(model()),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "lora_target": "all",
        "dataset_dir": str(folder),
        "dataset": "chats",
        "template": "chatml",
        "cutoff_len": SEQUENCE_LEN,
        "packing": packed,
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": MICRO_BATCH[packed],
        "gradient_accumulation_steps": 1,
        "num_train_epochs": 1,
        "max_steps": steps,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "cosine",
        "optim": "adamw_torch",
        "flash_attn": "sdpa",
        "disable_gradient_checkpointing": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "overwrite_output_dir": True,
    }
    argv = [program, "train", _write(folder / "config.yml", keys)]
    return _of_the_log("llamafactory-cli train", argv, folder, {"HF_DATASETS_CACHE": str(folder / "cache")})


def trl(program: str, data: Path, *, packed: bool, steps: int) -> Job:
    folder = FOLDER / "train-trl"
    folder.mkdir(parents=True, exist_ok=True)
    keys = {
        "model": str(model()),
        "data": str(data),
        "output_dir": str(folder / "out"),
        "sequence_len": SEQUENCE_LEN,
        "packed": packed,
        "micro_batch_size": MICRO_BATCH[packed],
        "max_steps": steps,
        "learning_rate": 2e-4,
    }
    argv = [str(Path(program).parent / "python"), str(Path(__file__).with_name("trl_train.py")), json.dumps(keys)]
    return _of_the_log("TRL's SFTTrainer", argv, folder, {"HF_DATASETS_CACHE": str(folder / "cache")})


PEERS = {"axolotl": axolotl, "llamafactory": llamafactory, "trl": trl}


def chats_within(limit: int, total: int) -> tuple[list[dict[str, Any]], int]:
    """Chats of at most ``limit`` tokens until ``total`` is reached, and how many tokens they have."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(model()))
    chosen, tokens = [], 0
    for chat in rows.chats(1_000):
        length = len(tokenizer.apply_chat_template(chat["messages"], return_dict=True)["input_ids"])
        if length <= limit and tokens < total:
            chosen.append(chat)
            tokens += length
    return chosen, tokens


def main() -> None:
    chosen, tokens = chats_within(LONGEST, TOKENS)
    data = rows.write(FOLDER / f"chats-{tokens}-tokens.jsonl", chosen)
    makers = {"ftl": (ours, str(BIN / "ftl"))}
    makers |= {name: (maker, program) for name, maker in PEERS.items() if (program := peer(name))}
    for packed in (False, True):
        print(f"LoRA r16 at {SEQUENCE_LEN}, fp32, {len(chosen)} chats, {tokens} tokens, packed: {packed}", flush=True)
        for maker, program in makers.values():
            measure(maker(program, data, packed=packed, steps=1))  # fills the caches
        found: dict[str, list[Figures]] = {name: [] for name in makers}
        for _ in range(num_runs(1)):
            for name, (maker, program) in makers.items():
                found[name].append(measure(maker(program, data, packed=packed, steps=-1)))
        _tell(found, tokens)


def _tell(found: Mapping[str, Sequence[Figures]], tokens: int) -> None:
    for name, figures in found.items():
        speed = statistics.median(tokens / each.train_s for each in figures)
        ratio = statistics.median(peer.train_s / own.train_s for own, peer in zip(found["ftl"], figures, strict=True))
        start = statistics.median(each.start_s for each in figures)
        peak = statistics.median(each.peak_mib for each in figures)
        print(
            f"  {name:<14} {speed:7.1f} tokens/s   ftl is {ratio:5.2f} x as fast   start to loop {start:5.1f} s"
            f"   peak memory {peak:6.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
