"""PEFT adapters: LoRA and its variants on a base model, from scratch or from ``lora_model_dir``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ftl_runner.models.errors import ModelError

if TYPE_CHECKING:
    from ftl_config import Config


def add_adapter(model: Any, config: Config) -> Any:
    """The model with a trainable adapter, or the model itself for full fine-tuning.

    Raises:
        ModelError: a target module that the model does not have (the message lists those it has).
    """
    keys = config.adapter
    if keys.adapter is None:
        return model
    from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training

    if keys.load_in_4bit or keys.load_in_8bit:
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=bool(config.training.gradient_checkpointing)
        )
    elif config.training.gradient_checkpointing:
        model.enable_input_require_grads()
    autocast = keys.peft_autocast_adapter_dtype is not False
    if keys.lora_model_dir:
        return PeftModel.from_pretrained(model, keys.lora_model_dir, is_trainable=True, autocast_adapter_dtype=autocast)
    try:
        return get_peft_model(model, lora_config(config), autocast_adapter_dtype=autocast)
    except ValueError as error:
        if "Target modules" not in str(error):
            raise
        raise ModelError(
            f"lora_target_modules {keys.lora_target_modules!r} names no module of this model",
            f"its linear modules are: {', '.join(linear_module_names(model))}",
        ) from error


def lora_config(config: Config) -> Any:
    """The PEFT ``LoraConfig`` of the ``lora_*`` and ``peft_*`` keys."""
    from peft import LoraConfig

    keys = config.adapter
    options: dict[str, Any] = {
        "r": keys.lora_r or 8,
        "lora_alpha": keys.lora_alpha or 16,
        "lora_dropout": keys.lora_dropout or 0.0,
        "target_modules": _target_modules(config),
        "modules_to_save": list(keys.lora_modules_to_save) if keys.lora_modules_to_save else None,
        "fan_in_fan_out": bool(keys.lora_fan_in_fan_out),
        "use_dora": bool(keys.peft_use_dora),
        "use_rslora": bool(keys.peft_use_rslora),
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
    optional = {
        "init_lora_weights": keys.peft_init_lora_weights,
        "layers_to_transform": keys.peft_layers_to_transform,
        "layers_pattern": keys.peft_layers_pattern,
        "rank_pattern": keys.lora_rank_pattern,
        "alpha_pattern": keys.lora_alpha_pattern,
        "exclude_modules": _names(keys.lora_exclude_modules),
        "target_parameters": _target_parameters(config),
        "layer_replication": _names(keys.peft_layer_replication),
        "trainable_token_indices": _token_indices(config),
        "ensure_weight_tying": keys.peft_ensure_weight_tying,
    }
    options.update({name: value for name, value in optional.items() if value is not None})
    return LoraConfig(**options)


def _target_modules(config: Config) -> Any:
    """Names, one pattern, or every linear layer; none where only parameters are named."""
    keys = config.adapter
    if keys.lora_target_linear:
        return "all-linear"
    if keys.lora_target_modules is None:
        return [] if keys.lora_target_parameters else "all-linear"
    return _names(keys.lora_target_modules)


def _target_parameters(config: Config) -> list[str] | None:
    value = config.adapter.lora_target_parameters
    return [value] if isinstance(value, str) else _names(value)


def _token_indices(config: Config) -> Any:
    value = config.adapter.peft_trainable_token_indices
    return {name: list(ids) for name, ids in value.items()} if isinstance(value, dict) else _names(value)


def _names(value: Any) -> Any:
    """PEFT takes lists where a frozen configuration has tuples."""
    return list(value) if isinstance(value, tuple) else value


def linear_module_names(model: Any) -> list[str]:
    """The last name parts of the model's linear modules, sorted: what ``lora_target_modules`` can name."""
    import torch

    names = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    return sorted(name for name in names if not re.fullmatch(r"\d+|lm_head", name))
