"""Config -> transformers ``TrainingArguments``, with Axolotl's meaning of every key."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError
from ftl_runner.data.stream import is_streamed
from ftl_runner.distributed.deepspeed import deepspeed_config, join_deepspeed
from ftl_runner.distributed.fsdp import complete_fsdp_arguments, fsdp_arguments
from ftl_runner.distributed.ranks import collective_timeout_s
from ftl_runner.models.kernels import liger_arguments
from ftl_runner.trainer.compilation import compile_arguments
from ftl_runner.trainer.hub import hub_arguments
from ftl_runner.trainer.optimizers import optim_args, transformers_name
from ftl_runner.trainer.schedules import check_schedule, schedule_arguments
from ftl_runner.trainer.trackers import tracker_arguments

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from ftl_config import Config
    from ftl_runner.models.precision import Precision

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """Counts of a run, in optimizer steps. ``global_batch`` is rows (or packed bins) a step over all ranks."""

    global_batch: int
    steps_per_epoch: int
    total_steps: int


def make_schedule(config: Config, num_rows: int | None, world_size: int) -> Schedule:
    """How many optimizer steps ``num_rows`` training rows make; None for a stream, which ``max_steps`` ends."""
    keys = config.training
    if num_rows is None:
        steps = keys.max_steps
        if not steps or steps < 0:
            raise FtlError("the length of a stream is not known", "set max_steps", exit_code=2)
        return Schedule(keys.micro_batch_size * world_size * accumulation_steps(config), steps, steps)
    whole = math.floor if config.data.dataloader_drop_last else math.ceil
    micro_steps = whole(num_rows / (config.training.micro_batch_size * world_size))
    accumulation = accumulation_steps(config)
    steps_per_epoch = max(1, math.ceil(micro_steps / accumulation))
    total = math.ceil(float(keys.num_epochs) * steps_per_epoch)
    if keys.max_steps and keys.max_steps > 0:
        total = keys.max_steps
    return Schedule(config.training.micro_batch_size * world_size * accumulation, steps_per_epoch, total)


def accumulation_steps(config: Config) -> int:
    """Micro-batches a step; from ``batch_size`` (rows a step and device) where that is what the user gave."""
    keys = config.training
    if keys.batch_size:
        return max(1, keys.batch_size // keys.micro_batch_size)
    return keys.gradient_accumulation_steps


def make_arguments(
    config: Config,
    precision: Precision,
    schedule: Schedule,
    world_size: int = 1,
    *,
    kind: type[TrainingArguments] | None = None,
    options: dict[str, Any] | None = None,
) -> TrainingArguments:
    """The arguments of one run; building them also sets DeepSpeed up, so it comes before the model is loaded.

    Args:
        kind: the class of a method's arguments, with ``options`` beyond those of ``TrainingArguments``.
    """
    from transformers import TrainingArguments

    keys = config.training
    check_schedule(config, schedule.total_steps)
    deepspeed = deepspeed_config(config, use_cpu=precision.use_cpu)
    if deepspeed is not None:
        join_deepspeed()
    arguments: dict[str, Any] = {
        "output_dir": str(config.checkpointing.output_dir),
        "per_device_train_batch_size": config.training.micro_batch_size,
        "per_device_eval_batch_size": keys.eval_batch_size or keys.micro_batch_size,
        "gradient_accumulation_steps": accumulation_steps(config),
        "num_train_epochs": float(keys.num_epochs),
        "max_steps": keys.max_steps or -1,
        "neftune_noise_alpha": keys.neftune_noise_alpha,
        "seed": keys.seed,
        "data_seed": keys.seed,
        "bf16": precision.bf16,
        "fp16": precision.fp16,
        "tf32": precision.tf32,
        "use_cpu": precision.use_cpu,
        "disable_tqdm": True,
        "log_level": "error",
        "log_level_replica": "error",
        "deepspeed": deepspeed,
    }
    arguments |= _optimizer(config)
    arguments |= schedule_arguments(config, schedule.total_steps)
    arguments |= _cadence(config, schedule)
    arguments |= _loading(config, use_cpu=precision.use_cpu)
    arguments |= _memory(config, world_size)
    arguments |= _data_parallel(config)
    arguments |= compile_arguments(config, use_cpu=precision.use_cpu)
    arguments |= liger_arguments(config, use_cpu=precision.use_cpu)
    arguments |= fsdp_arguments(config, world_size)
    arguments |= tracker_arguments(config)
    arguments |= hub_arguments(config)
    kind = kind or TrainingArguments
    made: TrainingArguments = (_on_cpu(kind) if precision.use_cpu else kind)(**arguments | (options or {}))
    complete_fsdp_arguments(made, config, use_cpu=precision.use_cpu)
    if world_size == 1 and made.n_gpu > 1:
        # The Trainer would spread each batch over all of them (DataParallel), and take as many times more rows.
        logger.warning("one of %d GPUs is used; for all: --launcher torchrun -- --nproc_per_node=gpu", made.n_gpu)
        made._n_gpu = 1
    return made


def _on_cpu(kind: type[TrainingArguments]) -> type[TrainingArguments]:
    """Arguments that call the processor ``cpu``: under DDP Accelerate says ``cpu:0``, and torch.load, which resuming
    gives it to, does not know that name."""
    import torch

    class CpuArguments(kind):  # type: ignore[misc, valid-type]
        @property
        def device(self) -> torch.device:
            return torch.device(super().device.type)

        def __reduce__(self) -> Any:  # saved beside the model, and read where this module is not
            return kind.__new__, (kind,), self.__dict__

    return CpuArguments


def _optimizer(config: Config) -> dict[str, Any]:
    keys = config.training
    targets = keys.optim_target_modules
    adam = {"adam_beta1": keys.adam_beta1, "adam_beta2": keys.adam_beta2, "adam_epsilon": keys.adam_epsilon}
    return {
        "learning_rate": keys.learning_rate,
        "optim": transformers_name(config),
        "optim_args": ",".join(f"{name}={value}" for name, value in optim_args(config).items()) or None,
        "optim_target_modules": targets if targets is None or isinstance(targets, str) else list(targets),
        "weight_decay": keys.weight_decay or 0.0,
        "max_grad_norm": 1.0 if keys.max_grad_norm is None else keys.max_grad_norm,
    } | {name: value for name, value in adam.items() if value is not None}


def _loading(config: Config, *, use_cpu: bool) -> dict[str, Any]:
    """How batches are drawn and loaded."""
    keys = config.data
    loading: dict[str, Any] = {
        "remove_unused_columns": False,
        "dataloader_num_workers": keys.dataloader_num_workers or 0,
        "dataloader_prefetch_factor": keys.dataloader_prefetch_factor,
        "dataloader_pin_memory": not use_cpu if keys.dataloader_pin_memory is None else keys.dataloader_pin_memory,
        "dataloader_drop_last": bool(keys.dataloader_drop_last),
        "accelerator_config": _accelerator_config(keys.accelerator_config),
    }
    if is_streamed(config):
        loading["ignore_data_skip"] = True  # the stream goes on by itself, without reading what has been seen
    elif keys.curriculum_sampling:
        loading["train_sampling_strategy"] = "sequential"
    elif keys.group_by_length and not keys.sample_packing:
        loading["train_sampling_strategy"] = "group_by_length"
    return loading


def _accelerator_config(options: dict[str, Any] | None) -> dict[str, Any] | None:
    if not options:
        return None
    from transformers.trainer_pt_utils import AcceleratorConfig

    known = AcceleratorConfig().to_dict()
    for name in options:
        if name not in known:
            raise FtlError(f"accelerator_config: unknown option {name!r}", f"known are {', '.join(known)}", exit_code=2)
    return dict(options)


def _data_parallel(config: Config) -> dict[str, Any]:
    keys = config.distributed
    return {
        # LISA freezes layers after DDP was told of them.
        "ddp_find_unused_parameters": bool(keys.ddp_find_unused_parameters or config.adapter.lisa_n_layers),
        "ddp_bucket_cap_mb": keys.ddp_bucket_cap_mb,
        "ddp_broadcast_buffers": keys.ddp_broadcast_buffers,
        "ddp_timeout": collective_timeout_s(config),
    }


def _cadence(config: Config, schedule: Schedule) -> dict[str, Any]:
    """When to log, save and evaluate. Rotation is ours (after a commit), so the Trainer keeps everything."""
    keys = config.checkpointing
    save = _strategy(keys.save_strategy, keys.save_steps, keys.saves_per_epoch, schedule, default="epoch")
    has_eval = bool(config.data.val_set_size) or bool(config.data.test_datasets)
    evaluate = _strategy(keys.eval_strategy, keys.eval_steps, keys.evals_per_epoch, schedule, default="epoch")
    if not has_eval:
        evaluate = ("no", None)
    logging_steps = config.logging.logging_steps or max(1, min(10, int(0.005 * schedule.total_steps)))
    cadence: dict[str, Any] = {
        "logging_steps": logging_steps,
        "logging_first_step": True,
        # The filter shows the mean of the losses before in place of NaN, which the watchdog has to see. It also waits
        # for the device after every micro batch, for nothing where NaN ends the run.
        "logging_nan_inf_filter": not config.training.stop_on_nan_loss
        and config.training.loss_watchdog_threshold is None,
        "save_strategy": save[0],
        "eval_strategy": evaluate[0],
        "save_only_model": bool(keys.save_only_model),
        "load_best_model_at_end": _ends_with_best(config),
        "metric_for_best_model": keys.metric_for_best_model or ("eval_loss" if keys.early_stopping_patience else None),
        "greater_is_better": keys.greater_is_better,
    }
    if save[1] is not None:
        cadence["save_steps"] = save[1]
    if evaluate[1] is not None:
        cadence["eval_steps"] = evaluate[1]
    return cadence


def _ends_with_best(config: Config) -> bool:
    """Asked for, or implied by early stopping, as in Axolotl; not where a restart has changed the base since."""
    keys = config.checkpointing
    implied = bool(keys.early_stopping_patience) and "load_best_model_at_end" not in keys.model_fields_set
    return keys.load_best_model_at_end or (implied and not config.adapter.relora)


def _strategy(
    strategy: Any, steps: float | None, per_epoch: int | None, schedule: Schedule, *, default: str
) -> tuple[str, float | None]:
    if steps:
        return "steps", steps
    if per_epoch:
        return "steps", max(1, schedule.steps_per_epoch // per_epoch)
    return (str(strategy), None) if strategy else (default, None)


def _memory(config: Config, world_size: int) -> dict[str, Any]:
    keys, fsdp = config.training, config.distributed.fsdp_config
    memory: dict[str, Any] = {
        "torch_empty_cache_steps": keys.torch_empty_cache_steps,
        "gradient_checkpointing": False,  # TRL's arguments have it on by default
    }
    by_fsdp = world_size > 1 and fsdp is not None and fsdp.activation_checkpointing
    if by_fsdp:
        return memory
    if keys.gradient_checkpointing or (fsdp is not None and fsdp.activation_checkpointing):
        # The non-reentrant form is PyTorch's recommended one and leaves results as they are.
        kwargs = keys.gradient_checkpointing_kwargs
        settings = {} if kwargs is None else dict(kwargs) if isinstance(kwargs, dict) else kwargs.model_dump()
        memory["gradient_checkpointing"] = True
        memory["gradient_checkpointing_kwargs"] = {"use_reentrant": False, **settings}
    return memory
