"""What `ftl estimate` predicts beside what training takes, on this machine's CPU.

Each config trains a random Llama of SmolLM2-135M's width, 8 layers and 57 M parameters, for two steps in a process of
its own. Measured is how much that process grows at most, less what it grows by with a model of two small layers: what
libraries take. `FTL_BENCH_CASES` names some of the cases, separated by semicolons.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.settings import FOLDER, model

STEPS = 2
MMAP_THRESHOLD = "65536"
"""glibc hands back at once what is larger, if told so. By itself it keeps much of what was freed, which is no need of
the training's, and nothing that a GPU's allocator does; `python -m tests.benchmarks.memory_estimate` shows how much."""
MIB = 2**20
_SHAPE = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 8,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
}
_SMALL = {**_SHAPE, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
_SMALL |= {"num_key_value_heads": 1}
_IMPORTED = (
    "ftl_runner.executor",
    "ftl_runner.train",
    "ftl_runner.methods.sft",
    "ftl_runner.trainer.token_trainer",
    "ftl_runner.report",
    "ftl_runner.plot",
    "peft",
    "datasets",
    "accelerate",
    "matplotlib.pyplot",
    "transformers.models.llama.modeling_llama",
)
"""Imported before the processes are forked, to save their time."""
LORA = {"adapter": "lora", "lora_r": 16, "lora_alpha": 32, "lora_target_linear": True}
PACKED = {"sample_packing": True, "pad_to_sequence_len": True}


def _case(rows: int, length: int, **keys: Any) -> dict[str, Any]:
    return {"micro_batch_size": rows, "sequence_len": length, **keys}


CASES: dict[str, dict[str, Any]] = {
    "LoRA, float32, 4 x 256": _case(4, 256, **LORA),
    "LoRA, packed, 1 x 1024": _case(1, 1024, **LORA, **PACKED),
    "LoRA, bfloat16, 4 x 256": _case(4, 256, **LORA, bf16=True),
    "LoRA, dropout, 4 x 256": _case(4, 256, **LORA, lora_dropout=0.05),
    "LoRA, checkpointing, 4 x 256": _case(4, 256, **LORA, gradient_checkpointing=True),
    "full, float32, 2 x 256": _case(2, 256),
    "full, float32, 4 x 256": _case(4, 256),
    "full, checkpointing, 4 x 256": _case(4, 256, gradient_checkpointing=True),
    "full, bfloat16, 4 x 256": _case(4, 256, bf16=True),
    "full, two micro batches, 2 x 256": _case(2, 256, gradient_accumulation_steps=2),
    "full, adafactor, 2 x 256": _case(2, 256, optimizer="adafactor"),
    "LoRA, packed, 1 x 2048": _case(1, 2048, **LORA, **PACKED),
}


def write_model(folder: Path, shape: dict[str, int]) -> Path:
    """A random Llama with SmolLM2's tokenizer."""
    if (folder / "config.json").is_file():
        return folder
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer: Any = AutoTokenizer.from_pretrained(model())
    torch.manual_seed(0)
    settings = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **shape,
    )
    LlamaForCausalLM(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(file: Path, length: int, *, count: int = 24) -> Path:
    """Tokenized rows of one length, every token trained."""
    source = random.Random(0)
    with file.open("w") as out:
        for _ in range(count):
            ids = [source.randrange(100, 40_000) for _ in range(length)]
            out.write(json.dumps({"input_ids": ids, "labels": ids, "attention_mask": [1] * length}) + "\n")
    return file


def in_child(function: Callable[[], float]) -> float:
    """A function's result from a forked process: what is imported already costs neither time nor memory there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writing, str(function()).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    if os.waitpid(child, 0)[1]:
        raise SystemExit("a training failed")
    return float(text)


def growth(config: Path) -> float:
    """Bytes by which this process grew at most while it trained a config."""
    from ftl_config import load_config
    from ftl_runner.executor import run_training

    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until this process ends
    code = run_training(load_config(config))
    if code:
        raise RuntimeError(f"exit code {code}: {(config.parent / 'out/events.jsonl').read_text()[-500:]}")
    return status("VmHWM") - before


def status(name: str) -> float:
    """A size of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def run(base: Path, settings: dict[str, Any]) -> tuple[float, float]:
    """(predicted, measured) bytes of one training."""
    from ftl_config.load import load_text
    from ftl_config.memory.devices import cpu_device
    from ftl_config.memory.estimate import estimate

    length = settings["sequence_len"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = write_rows(folder / "rows.jsonl", length // 2 if settings.get("sample_packing") else length)
        config = {
            "base_model": str(base),
            "datasets": [{"path": str(rows), "type": None}],
            "dataset_prepared_path": str(folder / "prepared"),
            "output_dir": str(folder / "out"),
            "learning_rate": 1e-5,
            "max_steps": STEPS,
            "save_strategy": "no",
            "optimizer": "adamw_torch",
            **settings,
        }
        text, file = json.dumps(config), folder / "config.yml"
        file.write_text(text)
        shapes = json.loads((base / "config.json").read_text())
        found = estimate(load_text(text).config, shapes, cpu_device(2**40), 1)
        return found.peak_bytes, in_child(lambda: growth(file))


def main() -> None:
    environment = {"MALLOC_MMAP_THRESHOLD_": MMAP_THRESHOLD, **os.environ}
    subprocess.run([sys.executable, "-m", "tests.benchmarks.memory_estimate"], env=environment, check=True)


def compare() -> None:
    """Print predicted and measured, case by case."""
    wanted = [name for name in os.environ.get("FTL_BENCH_CASES", "").split(";") if name]
    base = in_folder("memory-model", _SHAPE)
    small = in_folder("memory-model-small", _SMALL)
    for name in _IMPORTED:
        importlib.import_module(name)
    print("peak memory of training, predicted and measured (this machine's CPU)")
    libraries: dict[Any, float] = {}
    for name, settings in CASES.items():
        if wanted and name not in wanted:
            continue
        kind = tuple(settings.get(key) for key in ("adapter", "bf16", "sample_packing"))
        if kind not in libraries:
            small_predicted, small_growth = run(small, settings | {"micro_batch_size": 1, "sequence_len": 64})
            libraries[kind] = small_growth - small_predicted
        predicted, grown = run(base, settings)
        measured = grown - libraries[kind]
        print(
            f"  {name:<34} predicted {predicted / MIB:7.0f} MiB   measured {measured / MIB:7.0f} MiB   "
            f"ratio {predicted / measured:.2f}",
            flush=True,
        )


def in_folder(name: str, shape: dict[str, int]) -> Path:
    """A model of the benchmark's, made once; in a process of its own, for what making it takes."""
    folder = FOLDER / name
    in_child(lambda: float(bool(write_model(folder, shape))))
    return folder


if __name__ == "__main__":
    compare()
