"""What the runner costs over a plain transformers Trainer doing the same steps: `ftl train` beside plain_trainer.py.

Both fine-tune SmolLM2-135M with LoRA on the demo data, same batches, 12 steps, one process; compared are the seconds
from the first to the last step, and the whole process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / ".demo/models/SmolLM2-135M-Instruct"
STEPS = 12
CONFIG = {
    "base_model": str(MODEL),
    "adapter": "lora",
    "lora_r": 16,
    "lora_alpha": 32,
    "lora_target_linear": True,
    "datasets": [{"path": str(ROOT / "templates/examples/data/answer_why_try.jsonl"), "type": "chat_template"}],
    "sequence_len": 512,
    "micro_batch_size": 4,
    "max_steps": STEPS,
    "learning_rate": 5e-4,
    "optimizer": "adamw_torch",
    "logging_steps": 1,
    "save_strategy": "no",
}


def run_ours(folder: Path) -> tuple[float, float]:
    config = folder / "config.yml"
    settings = {**CONFIG, "output_dir": str(folder / "out"), "dataset_prepared_path": str(folder / "prepared")}
    config.write_text(json.dumps(settings))
    subprocess.run([sys.executable, "-m", "ftl_runner", "train", str(config)], check=True, capture_output=True)
    metrics = json.loads((folder / "out/metrics.json").read_text())
    return metrics["train_s"], metrics["total_s"]


def run_plain(folder: Path) -> tuple[float, float]:
    script = Path(__file__).with_name("plain_trainer.py")
    result = subprocess.run(
        [sys.executable, str(script), json.dumps(CONFIG), str(folder)], check=True, capture_output=True, text=True
    )
    figures = json.loads(result.stdout.splitlines()[-1])
    return figures["train_s"], figures["total_s"]


def main() -> None:
    from ftl_runner.demo_model import write_demo_model

    write_demo_model(MODEL)
    pairs = []
    for _ in range(int(os.environ.get("FTL_BENCH_RUNS", "3"))):
        with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as plain:
            pairs.append((run_ours(Path(ours)), run_plain(Path(plain))))
    print(f"runner overhead, {STEPS} steps of LoRA on SmolLM2-135M, one process")
    for index, what in enumerate(("training loop", "whole process")):
        ours = statistics.median(a[index] for a, _ in pairs)
        plain = statistics.median(b[index] for _, b in pairs)
        ratio = statistics.median(a[index] / b[index] for a, b in pairs)
        print(f"  {what:<14} ftl train {ours:7.2f} s   plain Trainer {plain:7.2f} s   ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
