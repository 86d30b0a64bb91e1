"""The keys under ``trl`` -> arguments of TRL's ``GRPOConfig``, with Axolotl's meaning of each."""

from __future__ import annotations

import importlib.util
from math import gcd
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError
from ftl_config.schema.preference import TrlConfig
from ftl_runner.trainer.arguments import accumulation_steps

if TYPE_CHECKING:
    from ftl_config import Config

_SAME_NAME = (
    "max_completion_length",
    "generation_batch_size",
    "num_generations",
    "num_completions_to_print",
    "importance_sampling_level",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "num_iterations",
    "epsilon",
    "epsilon_high",
    "loss_type",
    "multi_objective_aggregation",
    "off_policy_mask_threshold",
    "use_bias_correction_kl",
)
"""Passed on where they are given; TRL has a default for each."""

_VLLM = {
    "vllm_mode": "vllm_mode",
    "vllm_server_timeout": "vllm_server_timeout",
    "vllm_guided_decoding_regex": "vllm_structured_outputs_regex",
    "vllm_enable_sleep_mode": "vllm_enable_sleep_mode",
    "vllm_importance_sampling_correction": "vllm_importance_sampling_correction",
    "vllm_importance_sampling_mode": "vllm_importance_sampling_mode",
    "vllm_importance_sampling_cap": "vllm_importance_sampling_clip_max",
}
"""Our key to TRL's argument."""

DEFAULT_GENERATIONS = 8
"""TRL's answers to a prompt where ``num_generations`` is not given."""


def grpo_options(config: Config, world_size: int) -> dict[str, Any]:
    """Arguments beyond those of ``TrainingArguments``.

    Raises:
        FtlError: answers do not fill groups, or vLLM is asked for and not installed.
    """
    trl = config.preference.trl or TrlConfig()
    options: dict[str, Any] = {name: getattr(trl, name) for name in _SAME_NAME if getattr(trl, name) is not None}
    options |= {
        "beta": beta_of(config),
        "disable_dropout": False,  # what the model and lora_dropout say, as in supervised fine-tuning
        "shuffle_dataset": not config.data.curriculum_sampling,
        "pad_to_multiple_of": config.data.pad_to_multiple_of,
        "trust_remote_code": bool(config.model.trust_remote_code),
        "scale_rewards": trl.scale_rewards,
        "mask_truncated_completions": trl.mask_truncated_completions,
        "log_completions": bool(trl.log_completions),
        "reward_weights": list(trl.reward_weights) if trl.reward_weights else None,
        "generation_kwargs": dict(trl.generation_kwargs) if trl.generation_kwargs else None,
        "chat_template_kwargs": dict(trl.chat_template_kwargs) if trl.chat_template_kwargs else None,
        "num_generations_eval": _evaluated_generations(config, trl, world_size),
    }
    if config.preference.rl == "gdpo":
        options["multi_objective_aggregation"] = "normalize_then_sum"
    if trl.sync_ref_model:
        options["sync_ref_model"] = True
        options["ref_model_mixup_alpha"] = trl.ref_model_mixup_alpha
        options["ref_model_sync_steps"] = trl.ref_model_sync_steps
    _check_groups(config, trl, world_size)
    return options | (_vllm_options(config, trl) if trl.use_vllm else {})


def answers_an_epoch(config: Config, world_size: int, num_prompts: int) -> int:
    """What an epoch trains on: every prompt's answers, as often as they are used; an unfilled generation is dropped."""
    trl = config.preference.trl or TrlConfig()
    num = trl.num_generations or DEFAULT_GENERATIONS
    batch = trl.generation_batch_size or config.training.micro_batch_size * world_size * accumulation_steps(config)
    return num_prompts // (batch // num) * batch * (trl.num_iterations or 1)


def beta_of(config: Config) -> float:
    """Weight of the distance to the reference model; 0 where nothing is said, and then there is no reference."""
    return config.preference.beta_or(0.0)


def _check_groups(config: Config, trl: TrlConfig, world_size: int) -> None:
    """What the laptop cannot know: how many ranks there are."""
    num, micro = trl.num_generations or DEFAULT_GENERATIONS, config.training.micro_batch_size * world_size
    batch = trl.generation_batch_size or micro * accumulation_steps(config)
    if batch % num:
        raise FtlError(
            f"trl.num_generations: {batch} answers at a time over {world_size} ranks make no groups of {num}",
            f"gradient_accumulation_steps: {num // gcd(num, micro)} is the smallest that fits",
            exit_code=2,
        )
    if trl.generation_batch_size and batch % micro:
        hint = f"micro_batch_size times ranks is {micro}"
        raise FtlError(f"trl.generation_batch_size: {batch} answers are no whole number of batches", hint, exit_code=2)


def _evaluated_generations(config: Config, trl: TrlConfig, world_size: int) -> int:
    """Answers to a prompt in evaluation: as many as in training, where a batch holds them."""
    rows = (config.training.eval_batch_size or config.training.micro_batch_size) * world_size
    return gcd(rows, trl.num_generations or DEFAULT_GENERATIONS)


def _vllm_options(config: Config, trl: TrlConfig) -> dict[str, Any]:
    if importlib.util.find_spec("vllm") is None:
        raise FtlError("trl.use_vllm needs the package vllm", "pip install 'trl[vllm]', or leave use_vllm out", 2)
    options = {name: getattr(trl, key) for key, name in _VLLM.items() if getattr(trl, key) is not None}
    server = config.preference.vllm
    host, port = trl.vllm_server_host, trl.vllm_server_port
    options |= {"use_vllm": True, "vllm_server_host": host, "vllm_server_port": port}
    if server is None:
        return options
    if "vllm_server_host" not in trl.model_fields_set:
        options["vllm_server_host"] = server.host
    if "vllm_server_port" not in trl.model_fields_set:
        options["vllm_server_port"] = server.port
    colocated = {
        "vllm_gpu_memory_utilization": server.gpu_memory_utilization,
        "vllm_tensor_parallel_size": server.tensor_parallel_size,
        "vllm_max_model_length": server.max_model_len,
    }
    return options | {name: value for name, value in colocated.items() if value is not None}
