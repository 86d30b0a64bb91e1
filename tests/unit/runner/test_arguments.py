"""From keys to TrainingArguments, trackers, the hub, Ray and callbacks."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from ftl_config import FtlError, load_text
from ftl_runner.distributed.ranks import collective_timeout_s
from ftl_runner.models.attention import choose_attention
from ftl_runner.models.errors import ModelError
from ftl_runner.models.precision import choose_precision
from ftl_runner.trainer.arguments import _loading, make_arguments, make_schedule
from ftl_runner.trainer.callbacks import SaveFirstStep
from ftl_runner.trainer.watchdog import LossWatchdog
from tests.unit.runner.snippets import CPU, config_of, needs_cpu, tiny_llama


def arguments_of(lines: str, rows: int = 1000, world_size: int = 1) -> TrainingArguments:
    config = config_of(lines)
    return make_arguments(config, CPU, make_schedule(config, rows, world_size))


ARGUMENTS: list[tuple[str, dict[str, Any]]] = [
    ("{}", {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "num_train_epochs": 1.0, "seed": 42}),
    ("{}", {"learning_rate": 5e-5, "optim": "adamw_torch_fused", "lr_scheduler_type": "cosine", "weight_decay": 0.0}),
    ("{}", {"max_steps": -1, "max_grad_norm": 1.0, "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8}),
    ("{}", {"save_strategy": "epoch", "eval_strategy": "no", "logging_first_step": True, "report_to": []}),
    ("{}", {"remove_unused_columns": False, "push_to_hub": False, "torch_compile": False, "use_liger_kernel": False}),
    ("{}", {"train_sampling_strategy": "random", "logging_nan_inf_filter": False, "gradient_checkpointing": False}),
    ("num_epochs: 0.5", {"num_train_epochs": 0.5}),
    ("max_steps: 7", {"max_steps": 7}),
    ("seed: 7", {"seed": 7, "data_seed": 7}),
    ("streaming: true\nmax_steps: 7", {"ignore_data_skip": True, "max_steps": 7}),
    ("streaming: true\nmax_steps: 7\ncurriculum_sampling: true", {"train_sampling_strategy": "random"}),
    ("max_steps: 7", {"ignore_data_skip": False}),
    ("micro_batch_size: 4", {"per_device_train_batch_size": 4, "per_device_eval_batch_size": 4}),
    ("micro_batch_size: 4\neval_batch_size: 2", {"per_device_eval_batch_size": 2}),
    ("micro_batch_size: 2\nbatch_size: 16", {"gradient_accumulation_steps": 8}),
    ("gradient_accumulation_steps: 3", {"gradient_accumulation_steps": 3}),
    ("optimizer: adamw_torch\nlearning_rate: 1e-3", {"optim": "adamw_torch", "learning_rate": 1e-3}),
    ("optim_args: {a: 1, b: x}", {"optim_args": "a=1,b=x"}),
    ("optim_args: a=1", {"optim_args": "a=1"}),
    ("optimizer: galore_adamw\noptim_target_modules: [attn, mlp]", {"optim_target_modules": ["attn", "mlp"]}),
    ("optimizer: galore_adamw\noptim_target_modules: all-linear", {"optim_target_modules": "all-linear"}),
    ("adam_beta1: 0.8\nadam_beta2: 0.95\nadam_epsilon: 1e-6", {"adam_beta1": 0.8, "adam_beta2": 0.95}),
    ("adam_epsilon: 1e-6\nweight_decay: 0.1", {"adam_epsilon": 1e-6, "weight_decay": 0.1}),
    ("max_grad_norm: 0", {"max_grad_norm": 0.0}),
    ("neftune_noise_alpha: 5", {"neftune_noise_alpha": 5.0}),
    ("warmup_steps: 5", {"warmup_steps": 5}),
    ("warmup_steps: 0", {"warmup_steps": 0}),
    ("warmup_ratio: 0.1", {"warmup_steps": 100}),
    ("cosine_min_lr_ratio: 0.1", {"lr_scheduler_type": "cosine_with_min_lr"}),
    ("cosine_min_lr_ratio: 0.1", {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}}),
    ("lr_scheduler: linear\ncosine_min_lr_ratio: 0.1", {"lr_scheduler_type": "linear"}),
    ("lr_scheduler: polynomial\nlr_scheduler_kwargs: {power: 2}", {"lr_scheduler_kwargs": {"power": 2}}),
    ("logging_steps: 3", {"logging_steps": 3}),
    ("save_steps: 20", {"save_strategy": "steps", "save_steps": 20}),
    ("save_steps: 0.25", {"save_strategy": "steps", "save_steps": 0.25}),
    ("saves_per_epoch: 4", {"save_strategy": "steps", "save_steps": 250}),
    ("saves_per_epoch: 4000", {"save_strategy": "steps", "save_steps": 1}),
    ("save_strategy: no", {"save_strategy": "no"}),
    ("save_only_model: true", {"save_only_model": True}),
    ("val_set_size: 0.1", {"eval_strategy": "epoch"}),
    ("val_set_size: 0.1\nevals_per_epoch: 2", {"eval_strategy": "steps", "eval_steps": 500}),
    ("val_set_size: 0.1\neval_steps: 10", {"eval_strategy": "steps", "eval_steps": 10}),
    ("val_set_size: 0.1\neval_strategy: no", {"eval_strategy": "no"}),
    (
        "val_set_size: 0.1\nload_best_model_at_end: true\nmetric_for_best_model: eval_gain\ngreater_is_better: false",
        {"load_best_model_at_end": True, "metric_for_best_model": "eval_gain", "greater_is_better": False},
    ),
    ("val_set_size: 0.1\nmetric_for_best_model: eval_loss", {"greater_is_better": False}),
    ("gradient_checkpointing: true", {"gradient_checkpointing_kwargs": {"use_reentrant": False}}),
    (
        "gradient_checkpointing: true\ngradient_checkpointing_kwargs: {use_reentrant: true}",
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
    ),
    ("torch_empty_cache_steps: 4", {"torch_empty_cache_steps": 4}),
    ("gc_steps: 4", {"torch_empty_cache_steps": 4}),
    ("torch_compile: auto", {"torch_compile": False}),
    ("torch_compile_mode: max-autotune", {"torch_compile": False}),
    (
        "torch_compile: true\ntorch_compile_backend: aot_eager\ntorch_compile_mode: max-autotune",
        {"torch_compile": True, "torch_compile_backend": "aot_eager", "torch_compile_mode": "max-autotune"},
    ),
    ("group_by_length: true", {"train_sampling_strategy": "group_by_length"}),
    ("group_by_length: true\nsample_packing: true", {"train_sampling_strategy": "random"}),
    ("curriculum_sampling: true", {"train_sampling_strategy": "sequential"}),
    (
        "dataloader_num_workers: 2\ndataloader_prefetch_factor: 3",
        {"dataloader_num_workers": 2, "dataloader_prefetch_factor": 3},
    ),
    ("{}", {"dataloader_num_workers": 0, "dataloader_pin_memory": False, "dataloader_drop_last": False}),
    ("dataloader_drop_last: true", {"dataloader_drop_last": True}),
    ("ddp_timeout: 60\nddp_bucket_cap_mb: 5", {"ddp_timeout": 60, "ddp_bucket_cap_mb": 5}),
    ("{}", {"ddp_timeout": 1800, "ddp_find_unused_parameters": False, "ddp_broadcast_buffers": None}),
    (
        "ddp_broadcast_buffers: false\nddp_find_unused_parameters: true",
        {"ddp_broadcast_buffers": False, "ddp_find_unused_parameters": True},
    ),
    ("stop_on_nan_loss: false", {"logging_nan_inf_filter": True}),
    ("stop_on_nan_loss: false\nloss_watchdog_threshold: 5", {"logging_nan_inf_filter": False}),
    ("wandb_name: a", {"run_name": "a"}),
    ("mlflow_run_name: b", {"run_name": "b"}),
    ("liger_rope: true", {"use_liger_kernel": False}),
]  # fmt: skip


@needs_cpu
@pytest.mark.parametrize(("lines", "expected"), ARGUMENTS, ids=lambda value: str(value).splitlines()[0][:40])
def test_arguments(lines: str, expected: dict[str, Any]) -> None:
    arguments = arguments_of(lines)
    assert {name: getattr(arguments, name) for name in expected} == expected


@pytest.mark.parametrize(("lines", "on_gpu"), [("{}", True), ("dataloader_pin_memory: false", False)])
def test_memory_is_pinned_for_a_gpu(lines: str, on_gpu: bool) -> None:
    assert _loading(config_of(lines), use_cpu=False)["dataloader_pin_memory"] is on_gpu
    assert _loading(config_of(lines), use_cpu=True)["dataloader_pin_memory"] is False


def test_accelerator_config() -> None:
    arguments = arguments_of("accelerator_config: {even_batches: false}")
    assert arguments.accelerator_config.even_batches is False
    with pytest.raises(FtlError, match="unknown option 'evn_batches'"):
        arguments_of("accelerator_config: {evn_batches: false}")


def test_compiler_flags_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor, "shape_padding", True)
    monkeypatch.setattr(inductor.triton, "cudagraphs", False)
    arguments_of("torch_compile: true\ntorch_compile_options: {shape_padding: false, triton.cudagraphs: true}")
    assert inductor.shape_padding is False
    assert inductor.triton.cudagraphs is True


# rows, ranks, keys -> rows a step, steps an epoch, all steps, warm-up
SCHEDULES: list[tuple[int, int, str, tuple[int, int, int, int]]] = [
    (1000, 1, "{}", (1, 1000, 1000, 30)),
    (100_000, 1, "{}", (1, 100_000, 100_000, 100)),
    (10, 1, "{}", (1, 10, 10, 0)),
    (1000, 4, "micro_batch_size: 2", (8, 125, 125, 3)),
    (1000, 4, "micro_batch_size: 2\ngradient_accumulation_steps: 4", (32, 32, 32, 0)),
    (1001, 1, "micro_batch_size: 10", (10, 101, 101, 3)),
    (1001, 1, "micro_batch_size: 10\ndataloader_drop_last: true", (10, 100, 100, 3)),
    (1000, 2, "micro_batch_size: 2\nbatch_size: 8", (16, 63, 63, 1)),
    (1000, 1, "num_epochs: 0.5", (1, 1000, 500, 15)),
    (1000, 1, "num_epochs: 2.5", (1, 1000, 2500, 75)),
    (7, 1, "gradient_accumulation_steps: 4\nnum_epochs: 1.5", (4, 2, 3, 0)),
    (1000, 1, "max_steps: 50\nnum_epochs: 3", (1, 1000, 50, 1)),
    (1, 8, "gradient_accumulation_steps: 4", (32, 1, 1, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "ranks", "lines", "expected"), SCHEDULES)
def test_schedule(rows: int, ranks: int, lines: str, expected: tuple[int, int, int, int]) -> None:
    schedule = make_schedule(config_of(lines), rows, ranks)
    warmup = arguments_of(lines, rows, ranks).warmup_steps
    assert (schedule.global_batch, schedule.steps_per_epoch, schedule.total_steps, warmup) == expected


# keys -> dtype of the weights, bf16, fp16
PRECISIONS: list[tuple[str, tuple[torch.dtype, bool, bool]]] = [
    ("{}", (torch.float32, False, False)),
    ("bf16: auto", (torch.float32, False, False)),
    ("bf16: false", (torch.float32, False, False)),
    ("bf16: true", (torch.bfloat16, True, False)),
    ("bf16: full", (torch.bfloat16, False, False)),
    ("bfloat16: true", (torch.bfloat16, False, False)),
    ("float32: true", (torch.float32, False, False)),
]


@needs_cpu
@pytest.mark.parametrize(("lines", "expected"), PRECISIONS)
def test_precision_on_a_cpu(lines: str, expected: tuple[torch.dtype, bool, bool]) -> None:
    precision = choose_precision(config_of(lines))
    assert (precision.load_dtype, precision.bf16, precision.fp16) == expected
    assert (precision.use_cpu, precision.tf32) == (True, None)


OLD, NEW = (7, 5), (9, 0)
"""CUDA's compute capability: without bf16 and TF32, and with them."""


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    # PyTorch's own answer for GPUs that only emulate it is yes, unless it is asked like this.
    supported = capability >= (8, 0)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or supported
    )


# GPU, keys -> dtype of the weights, bf16, fp16, tf32
GPU_PRECISIONS: list[tuple[tuple[int, int], str, tuple[torch.dtype, bool, bool, bool | None]]] = [
    (NEW, "{}", (torch.bfloat16, True, False, True)),
    (NEW, "bf16: full\ntf32: false", (torch.bfloat16, False, False, False)),
    (OLD, "{}", (torch.float32, False, True, False)),
    (OLD, "adapter: lora", (torch.float16, False, True, False)),
    (OLD, "fp16: false", (torch.float32, False, False, False)),
    (NEW, "fp16: true\nbf16: false", (torch.float32, False, True, True)),
    (NEW, "fp16: true\nbf16: false\nadapter: lora\ntf32: true", (torch.float16, False, True, True)),
    (NEW, "float16: true\nbf16: false", (torch.float16, False, False, True)),
]


@pytest.mark.parametrize(("gpu", "lines", "expected"), GPU_PRECISIONS)
def test_precision_on_a_gpu(
    gpu: tuple[int, int],
    lines: str,
    expected: tuple[torch.dtype, bool, bool, bool | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend_gpu(monkeypatch, gpu)
    precision = choose_precision(config_of(lines))
    assert (precision.load_dtype, precision.bf16, precision.fp16, precision.tf32) == expected
    assert precision.use_cpu is False


@pytest.mark.parametrize(
    ("lines", "message"),
    [("bf16: true", "bf16 is not supported"), ("bf16: full", "bf16 is not"), ("tf32: true", "tf32 is not supported")],
)
def test_formats_that_an_old_gpu_does_not_have(lines: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, OLD)
    with pytest.raises(ModelError, match=message) as caught:
        choose_precision(config_of(lines))
    assert caught.value.exit_code == 2


def test_scaled_gradients_need_weights_in_fp32() -> None:
    """Why a full fine-tune in fp16 loads them so; where PyTorch allows fp16 weights, it need not any more."""
    weight = torch.nn.Parameter(torch.ones(2, dtype=torch.float16))
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(weight.float().sum()).backward()
    with pytest.raises(ValueError, match="unscale FP16 gradients"):
        scaler.unscale_(torch.optim.SGD([weight], lr=0.1))


@needs_cpu
@pytest.mark.parametrize("lines", ["fp16: true", "float16: true", "bf16: auto\nfp16: true"])
def test_fp16_on_a_cpu_is_refused(lines: str) -> None:
    with pytest.raises(ModelError, match="fp16 training needs a GPU"):
        choose_precision(config_of(lines))


@needs_cpu
def test_attention_falls_back_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_attention(config_of("{}")) is None
    assert choose_attention(config_of("attn_implementation: eager")) == "eager"
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert choose_attention(config_of("flash_attention: true")) == "sdpa"
    assert "flash_attention_2: there is no GPU, so SDPA is used" in caplog.text


TRACKERS: list[tuple[str, list[str], dict[str, str]]] = [
    ("wandb_project: p\nwandb_watch: false", ["wandb"], {"WANDB_PROJECT": "p", "WANDB_WATCH": "false"}),
    ("use_wandb: false\nwandb_project: p", [], {}),
    (
        "mlflow_experiment_name: e\nmlflow_tracking_uri: http://x\nhf_mlflow_log_artifacts: true",
        ["mlflow"],
        {"MLFLOW_EXPERIMENT_NAME": "e", "MLFLOW_TRACKING_URI": "http://x", "HF_MLFLOW_LOG_ARTIFACTS": "true"},
    ),
    (
        "use_comet: true\ncomet_mode: get\ncomet_experiment_key: k\ncomet_online: false",
        ["comet_ml"],
        {"COMET_START_MODE": "get", "COMET_EXPERIMENT_KEY": "k", "COMET_START_ONLINE": "false"},
    ),
    ("use_tensorboard: true", ["tensorboard"], {}),
]


@pytest.mark.parametrize(("lines", "names", "variables"), TRACKERS)
def test_trackers(lines: str, names: list[str], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from ftl_runner.trainer.trackers import tracker_arguments

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(os, "environ", environment := {})
    assert tracker_arguments(config_of(lines))["report_to"] == (names or "none")
    assert environment == variables


def test_missing_tracker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FtlError, match="use_mlflow is on, but the package mlflow is not installed"):
        arguments_of("use_mlflow: true")


def test_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted-hub-token")
    lines = f"output_dir: {tmp_path / 'out'}\nhub_model_id: me/mine\n"
    arguments = arguments_of(lines)
    assert (arguments.push_to_hub, arguments.hub_model_id, arguments.hub_strategy) == (True, "me/mine", "every_save")
    assert (arguments.hub_private_repo, arguments.hub_revision) == (True, None)
    arguments = arguments_of(lines + "hub_strategy: end\nhub_revision: v2")
    assert (arguments.hub_strategy, arguments.hub_revision) == ("end", "v2")
    assert "planted-hub-token" not in str(arguments.to_dict())
    assert ".ray/" in (tmp_path / "out/.gitignore").read_text()


def test_hub_without_a_token_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(FtlError, match="no token to upload to me/mine"):
        arguments_of(f"output_dir: {tmp_path}\nhub_model_id: me/mine")


def test_ray_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import ray
    import ray.train.torch

    from ftl_runner.context import TrainJob
    from ftl_runner.ray_train import _make_trainer, _workers

    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    monkeypatch.setattr(ray.train.torch, "TorchTrainer", lambda loop, **options: options)
    for lines, name, timeout in (("{}", "run-1", 1800), ("ray_run_name: own\nddp_timeout: 9", "own", 9)):
        loaded = load_text(lines, ["--output-dir", str(tmp_path)], partial=True)
        job = TrainJob(loaded, "run-1", None, resume=False)
        options = _make_trainer(job, _workers(job), None)
        assert options["run_config"].name == name
        assert options["torch_config"].timeout_s == timeout == collective_timeout_s(loaded.config)


def logged(watchdog: LossWatchdog, *losses: float) -> None:
    for step, loss in enumerate(losses, start=1):
        watchdog.on_log(None, TrainerState(global_step=step), TrainerControl(), logs={"loss": loss})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ((9, 9, 9), 3),
        ((1, 9, 9, 1, 9, 9), None),
        ((1, 9, math.nan, math.inf), 4),
        ((math.nan, math.nan, math.nan), 3),
        ((5, 5, 5, 5), None),
    ],
)
def test_watchdog(losses: tuple[float, ...], step: int | None) -> None:
    watchdog = LossWatchdog(5.0, None)
    watchdog.on_log(None, TrainerState(), TrainerControl(), logs={"eval_loss": 9})  # type: ignore[arg-type]
    if step is None:
        logged(watchdog, *losses)
        return
    with pytest.raises(FtlError, match=f"at step {step} the loss is .*above 5 for 3 logged steps"):
        logged(watchdog, *losses)


@needs_cpu
def test_a_run_that_diverges_is_stopped_and_the_first_step_is_saved(tmp_path: Path) -> None:
    """Through the real Trainer: NaN reaches the watchdog, and the first checkpoint is there."""
    arguments = arguments_of(
        f"output_dir: {tmp_path}\nlearning_rate: 1e30\noptimizer: sgd\nwarmup_steps: 0\nmax_steps: 20\n"
        "max_grad_norm: 0\nlogging_steps: 1\nsave_strategy: no\nloss_watchdog_threshold: 100"
    )
    rows = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 20
    callbacks = [SaveFirstStep(), LossWatchdog(100.0, 2)]
    trainer = Trainer(model=tiny_llama(), args=arguments, train_dataset=rows, callbacks=callbacks)  # type: ignore[arg-type]
    with pytest.raises(FtlError, match="the loss is nan"):
        trainer.train()
    assert (tmp_path / "checkpoint-1").is_dir()


def test_a_stream_is_as_long_as_max_steps() -> None:
    config = config_of("streaming: true\nmax_steps: 40\nmicro_batch_size: 2\ngradient_accumulation_steps: 3")
    schedule = make_schedule(config, None, 4)
    assert (schedule.total_steps, schedule.steps_per_epoch, schedule.global_batch) == (40, 40, 24)
    with pytest.raises(FtlError, match="length of a stream"):
        make_schedule(config_of("{}"), None, 4)
