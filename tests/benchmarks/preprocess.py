"""From start to data ready, as whole processes, beside Axolotl, LLaMA-Factory and TRL: chats and alpaca rows, packed.

All read the same file with the same tokenizer, tokenize, mask (TRL trains on all tokens, its default), pack at 2,048
and write the result, with as many processes as there are cores. LLaMA-Factory's clock stops when the written set is
complete, TRL's when its trainer has its data (it writes to its cache); what they would do next is cut off.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.benchmarks import rows
from tests.benchmarks.paired import Command, compare
from tests.benchmarks.settings import BIN, CORES, FOLDER, OFFLINE, model, num_runs, peer

SEQUENCE_LEN = 2048
CHATS, INSTRUCTIONS = 20_000, 50_000


def _yaml(path: Path, values: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1))  # JSON is YAML
    return str(path)


def _axolotl_keys(data: Path, kind: str, folder: Path) -> dict[str, Any]:
    return {
        "base_model": str(model()),
        "datasets": [{"path": str(data), "ds_type": "json", "type": kind}],
        "dataset_prepared_path": str(folder / "prepared"),
        "dataset_num_proc": CORES,
        "sequence_len": SEQUENCE_LEN,
        "sample_packing": True,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "num_epochs": 1,
        "learning_rate": 2e-4,
        "optimizer": "adamw_torch",
        "output_dir": str(folder / "out"),
    }


def ours(data: Path, kind: str) -> Command:
    folder = FOLDER / "ftl"
    config = _yaml(folder / f"{kind}.yml", _axolotl_keys(data, kind, folder))
    return Command("ftl preprocess", [str(BIN / "ftl"), "preprocess", config], fresh=[folder / "prepared"], env=OFFLINE)


def axolotl(program: str, data: Path, kind: str) -> Command:
    folder = FOLDER / "axolotl"
    config = _yaml(folder / f"{kind}.yml", _axolotl_keys(data, kind, folder))
    argv = [program, "preprocess", config, "--no-download"]
    cache = folder / "cache"
    env = {**OFFLINE, "HF_DATASETS_CACHE": str(cache)}
    return Command("axolotl preprocess", argv, fresh=[folder / "prepared", cache], env=env)


def llamafactory(program: str, data: Path, kind: str) -> Command:
    folder = FOLDER / "llamafactory"
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    chat = {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": {**tags, "system_tag": "system"}}
    _yaml(folder / "dataset_info.json", {kind: {"file_name": str(data), **(chat if kind == "chat_template" else {})}})
    tokenized, cache = folder / "tokenized", folder / "cache"
    keys = {
        "model_name_or_path": str(model()),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "dataset_dir": str(folder),
        "dataset": kind,
        "template": "chatml" if kind == "chat_template" else "alpaca",
        "cutoff_len": SEQUENCE_LEN,
        "packing": True,
        "preprocessing_num_workers": CORES,
        "tokenized_path": str(tokenized),
        "output_dir": str(folder / "out"),
        "report_to": "none",
    }
    argv = [program, "train", _yaml(folder / f"{kind}.yml", keys)]
    env = {**OFFLINE, "HF_DATASETS_CACHE": str(cache)}
    ready = tokenized / "train/state.json"  # the last file of the set
    return Command("llamafactory-cli train", argv, fresh=[tokenized, cache], ready=ready, env=env)


def trl(program: str, data: Path, kind: str) -> Command | None:
    if kind != "chat_template":
        return None  # TRL has no alpaca format
    cache = FOLDER / "trl/cache"
    script = Path(__file__).with_name("trl_prepare.py")
    argv = [str(Path(program).parent / "python"), str(script), str(model()), str(data), str(SEQUENCE_LEN), str(CORES)]
    return Command("trl SFTTrainer's data", argv, fresh=[cache], env={**OFFLINE, "HF_DATASETS_CACHE": str(cache)})


PEERS = {"axolotl": axolotl, "llamafactory": llamafactory, "trl": trl}


def main() -> None:
    sets = {
        "chat_template": (rows.write(FOLDER / "chats-20000.jsonl", rows.chats(CHATS)), "20,000 chats"),
        "alpaca": (rows.write(FOLDER / "alpaca-50000.jsonl", rows.instructions(INSTRUCTIONS)), "50,000 alpaca rows"),
    }
    named = {name: program for name in PEERS if (program := peer(name))}
    if not named:
        print("no peer is named (FTL_BENCH_AXOLOTL, FTL_BENCH_LLAMAFACTORY, FTL_BENCH_TRL): nothing to compare with")
    for kind, (data, title) in sets.items():
        for name, program in named.items():
            command = PEERS[name](program, data, kind)
            if command is not None:
                print(f"start to data ready, {title}, {CORES} processes: ftl and {name}", flush=True)
                compare(ours(data, kind), command, runs=num_runs(3), warmup=0)


if __name__ == "__main__":
    main()
