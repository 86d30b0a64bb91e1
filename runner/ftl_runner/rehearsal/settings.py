"""A config's own keys, changed as little as lets it run here and now: few steps, on CPUs, into a folder of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_WORKERS = 2
_MAX_LEN = 1024
_MAX_ROWS_A_STEP = 2
_REPORTERS = ("wandb", "mlflow", "comet", "trackio", "swanlab", "otel", "gradio")

_NOT_HERE = (
    "hub_model_id",
    "hub_strategy",
    "push_dataset_to_hub",
    "resume_from_checkpoint",
    "auto_resume_from_checkpoints",
    "checkpoint",
    "early_stopping_patience",
    "do_bench_eval",
    "lm_eval_tasks",
    "profiler_steps",
)
_OF_THE_MODEL = (
    "base_model_config",
    "model_revision",
    "tokenizer_config",
    "lora_model_dir",
    "gptq",
    "model_quantization_config",
    "max_memory",
    "gpu_memory_limit",
    "device_map",
)
_OF_GPUS = re.compile(
    r"liger_\w+|lora_(?:mlp|qkv|o|embedding)_kernel|cut_cross_entropy|flash_attn_\w+|fused_attn_kernel|use_kernels"
    r"|use_scattermoe|use_sonicmoe|torch_compile\w*|bf16|fp16|tf32|bfloat16|float16|fp8|dpo_use_liger_kernel"
    r"|attn_implementation|activation_offloading|layer_offloading|torch_empty_cache_steps"
)
_GPU_PLUGINS = re.compile(r"liger|cut_cross_entropy", re.IGNORECASE)


@dataclass
class Changes:
    """The values of the small config, and what was changed with the reason."""

    values: dict[str, Any]
    told: list[dict[str, str]] = field(default_factory=list)

    def set(self, key: str, value: Any, why: str) -> None:
        """Another value; told where it is another than before."""
        before = self.values.get(key)
        if before != value:
            self.values[key] = value
            self._tell(key, before, value, why)

    def drop(self, key: str, why: str) -> None:
        """No value; told where there was one that said something."""
        before = self.values.pop(key, None)
        if before not in (None, False, [], {}):
            self._tell(key, before, None, why)

    def _tell(self, key: str, before: Any, after: Any, why: str) -> None:
        self.told.append({"key": key, "before": _short(before), "after": _short(after), "why": why})


def small_settings(values: Mapping[str, Any], folder: Path, *, steps: int, on_gpus: bool) -> Changes:
    """All changes but those of the model and the rows.

    Args:
        values: the keys of the config that were set.
        folder: where everything of the rehearsal goes.
        steps: training steps.
        on_gpus: this machine has accelerators, so what is for them stays.
    """
    changes = Changes(dict(values))
    _where_it_goes(changes, folder)
    _how_long(changes, steps)
    _how_much(changes)
    for key in _OF_THE_MODEL:
        changes.drop(key, "belongs to the real model")
    if not on_gpus:
        _without_gpus(changes)
    return changes


def _where_it_goes(changes: Changes, folder: Path) -> None:
    launch = changes.values.pop("launch", None) or {}
    kept = {key: launch[key] for key in ("env", "preflight") if key in launch}
    if kept:
        changes.values["launch"] = kept
    changes.values["output_dir"] = str(folder / "out")
    changes.values["dataset_prepared_path"] = str(folder / "prepared")
    for key in _NOT_HERE:
        changes.drop(key, "nothing leaves this machine, and every rehearsal is a new run")
    for key in list(changes.values):
        if key.removeprefix("use_").split("_")[0] in _REPORTERS or key == "hf_mlflow_log_artifacts":
            changes.drop(key, "a rehearsal is not reported")


def _how_long(changes: Changes, steps: int) -> None:
    changes.drop("num_epochs", "a few steps will do")
    changes.drop("batch_size", "a few rows a step will do")
    changes.set("max_steps", steps, "a few steps will do")
    changes.values |= {"save_strategy": "steps", "save_steps": max(1, steps - 1), "logging_steps": 1}
    for key in ("saves_per_epoch", "evals_per_epoch", "save_first_step", "save_total_limit"):
        changes.values.pop(key, None)
    if changes.values.get("test_datasets") or changes.values.get("val_set_size"):
        changes.values |= {"eval_strategy": "steps", "eval_steps": steps}
    changes.values.pop("warmup_ratio", None)
    if changes.values.get("warmup_steps"):
        changes.values["warmup_steps"] = 1
    for key in ("relora", "lisa_step_interval", "jagged_restart_steps", "nvfp4_merge_aware_start_step"):
        if isinstance(changes.values.get(key), int) and not isinstance(changes.values[key], bool):
            changes.set(key, 1, "within the few steps")
    changes.values["generate_samples"] = False


def _how_much(changes: Changes) -> None:
    values = changes.values
    for key, most in (("micro_batch_size", _MAX_ROWS_A_STEP), ("gradient_accumulation_steps", 2)):
        if isinstance(values.get(key), int):
            changes.set(key, min(values[key], most), "a few rows a step will do")
    if values.get("eval_batch_size"):
        values["eval_batch_size"] = min(int(values["eval_batch_size"]), _MAX_ROWS_A_STEP)
    for key in ("sequence_len", "eval_sequence_len"):
        if isinstance(values.get(key), int) and values[key] > _MAX_LEN:
            changes.set(key, _MAX_LEN, "short rows will do")
            changes.set("excess_length_strategy", "truncate", "rows that fit the real length are not lost")
    if isinstance(values.get("val_set_size"), int) and values["val_set_size"] >= 1:
        changes.set("val_set_size", 0.25, "of a slice of the data")
    for key in ("dataset_num_proc", "dataloader_num_workers"):
        values.pop(key, None)
    if isinstance(trl := values.get("trl"), dict):
        small = {"max_completion_length": min(int(trl.get("max_completion_length") or 16), 16)}
        changes.set("trl", {**{k: v for k, v in trl.items() if "vllm" not in k}, **small}, "short answers, no vLLM")
    changes.drop("vllm", "no server of answers")


def _without_gpus(changes: Changes) -> None:
    why = "needs a GPU, and this machine has none"
    for key in list(changes.values):
        if _OF_GPUS.fullmatch(key):
            changes.drop(key, why)
    if plugins := changes.values.get("plugins"):
        kept = [name for name in plugins if not _GPU_PLUGINS.search(name)]
        if kept != list(plugins):
            changes.set("plugins", kept, why)
        if not kept:
            changes.values.pop("plugins")
    if "8bit" in str(changes.values.get("optimizer")):
        changes.set("optimizer", "adamw_torch", why)


def layers_counted(values: Mapping[str, Any]) -> int:
    """How many layers keys of the config count on: those named in patterns, and the lists of layers to transform."""
    told = [
        values.get(key) for key in ("unfrozen_parameters", "lora_target_modules", "lora_exclude_modules", "lr_groups")
    ]
    places = re.findall(r"\b(?:layers|h|blocks?)\.\(?([\d|]+)", str(told).replace("\\", ""))
    named = [int(number) for place in places for number in re.findall(r"\d+", place)]
    layers = values.get("peft_layers_to_transform")
    named += [layers] if isinstance(layers, int) else [n for n in layers or () if isinstance(n, int)]
    return max([1, *named]) + 1


def _short(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
