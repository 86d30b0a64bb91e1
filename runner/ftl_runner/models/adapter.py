"""PEFT adapters: LoRA and its variants on a base model, from scratch or from ``lora_model_dir``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftl_runner.models.freeze import freeze_all_but
from ftl_runner.models.heads import HEAD_MODULE, head_of, keep_head_in_full, peft_task
from ftl_runner.models.plain_lora import remember_start
from ftl_runner.models.targets import check_targeted, check_targets, linear_module_names

if TYPE_CHECKING:
    from ftl_config import Config


def add_adapter(model: Any, config: Config) -> Any:
    """The model with a trainable adapter, or the model itself for full fine-tuning.

    Raises:
        ModelError: a module or parameter that the model does not have (the message lists those it has).
    """
    keys = config.adapter
    if keys.adapter is None:
        if config.training.unfrozen_parameters:
            freeze_all_but(model, config.training.unfrozen_parameters)
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
    check_targets(model, config)
    adapted = get_peft_model(model, lora_config(config, model), autocast_adapter_dtype=autocast)
    check_targeted(adapted, config)
    if autocast:
        keep_head_in_full(adapted, config)
    remember_start(adapted)
    return adapted


def lora_config(config: Config, model: Any) -> Any:
    """The PEFT ``LoraConfig`` of the ``lora_*`` and ``peft_*`` keys, for this model."""
    from peft import LoraConfig

    keys = config.adapter
    options: dict[str, Any] = {
        "r": keys.lora_r or 8,
        "lora_alpha": keys.lora_alpha or 16,
        "lora_dropout": keys.lora_dropout or 0.0,
        "target_modules": _target_modules(config, model),
        "modules_to_save": list(keys.lora_modules_to_save) if keys.lora_modules_to_save else None,
        "fan_in_fan_out": bool(keys.lora_fan_in_fan_out),
        "use_dora": bool(keys.peft_use_dora),
        "use_rslora": bool(keys.peft_use_rslora),
        "bias": "none",
        "task_type": peft_task(config),
    }
    optional = {
        "init_lora_weights": keys.peft_init_lora_weights,
        "layers_to_transform": keys.peft_layers_to_transform,
        "layers_pattern": keys.peft_layers_pattern,
        "rank_pattern": keys.lora_rank_pattern,
        "alpha_pattern": keys.lora_alpha_pattern,
        "exclude_modules": _excluded(config),
        "target_parameters": _target_parameters(config),
        "layer_replication": _names(keys.peft_layer_replication),
        "trainable_token_indices": _token_indices(config),
        "ensure_weight_tying": keys.peft_ensure_weight_tying,
    }
    options.update({name: value for name, value in optional.items() if value is not None})
    return LoraConfig(**options)


def _target_modules(config: Config, model: Any) -> Any:
    """Names, one pattern, or every linear layer; none where only parameters are named.

    With ``lora_target_linear`` what ``lora_target_modules`` names comes on top.
    """
    keys = config.adapter
    named = _names(keys.lora_target_modules)
    if not keys.lora_target_linear:
        return named if named is not None else [] if keys.lora_target_parameters else "all-linear"
    linear = linear_module_names(model)
    if named is None or named == "all-linear" or (isinstance(named, list) and set(named) <= set(linear)):
        return "all-linear"
    if isinstance(named, str):
        return rf"(?:{named})|(?:.*\.)?(?:{'|'.join(linear)})"
    return sorted({*linear, *named})


def _excluded(config: Config) -> Any:
    """Names or one pattern; a head is trained as a whole, which PEFT refuses to do beside an adapter on it."""
    named = _names(config.adapter.lora_exclude_modules)
    if head_of(config) is None:
        return named
    if isinstance(named, str):
        return rf"(?:{named})|(?:.*\.)?{HEAD_MODULE}"
    return [*(named or ()), HEAD_MODULE]


def _target_parameters(config: Config) -> list[str] | None:
    value = config.adapter.lora_target_parameters
    return [value] if isinstance(value, str) else _names(value)


def _token_indices(config: Config) -> Any:
    value = config.adapter.peft_trainable_token_indices
    return {name: list(ids) for name, ids in value.items()} if isinstance(value, dict) else _names(value)


def _names(value: Any) -> Any:
    """PEFT takes lists where a frozen configuration has tuples."""
    return list(value) if isinstance(value, tuple) else value
