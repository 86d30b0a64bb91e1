"""PEFT adapters: LoRA and its variants on a base model, from scratch or from ``lora_model_dir``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_runner.failures import first_line
from ftl_runner.models import relora
from ftl_runner.models.errors import ModelError
from ftl_runner.models.fake_quantization import pretend_quantized
from ftl_runner.models.freeze import freeze_all_but
from ftl_runner.models.heads import HEAD_MODULE, head_of, keep_head_in_full, peft_task
from ftl_runner.models.loftq import round_base, start_from_residual
from ftl_runner.models.plain_lora import remember_start
from ftl_runner.models.quantization import released_quantization
from ftl_runner.models.spectrum import chosen_parameters, uses_spectrum
from ftl_runner.models.targets import check_targeted, check_targets, linear_module_names, modules_passed_by

if TYPE_CHECKING:
    from ftl_config import Config


def add_adapter(model: Any, config: Config) -> Any:
    """The model with a trainable adapter, or the model itself for full fine-tuning.

    Raises:
        ModelError: a module or parameter that the model does not have (the message lists those it has).
    """
    keys = config.adapter
    if keys.adapter is None:
        trained = chosen_parameters(model, config) if uses_spectrum(config) else config.training.unfrozen_parameters
        if trained:
            freeze_all_but(model, trained)
        if config.quantization.qat is not None:
            pretend_quantized(model, config.quantization.qat)
        return model
    from peft import get_peft_model, prepare_model_for_kbit_training
    from transformers import set_seed

    if keys.load_in_4bit or keys.load_in_8bit or released_quantization(model.config) == "gptq":
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=bool(config.training.gradient_checkpointing)
        )
    elif config.training.gradient_checkpointing:
        model.enable_input_require_grads()
    if keys.lora_model_dir:
        return load_adapter(model, config, Path(keys.lora_model_dir).expanduser(), trainable=True)
    check_targets(model, config)
    # The same random start on every rank, in every attempt, and however the base was read: ZeRO-3 draws numbers for it.
    set_seed(config.training.seed)
    adapted = get_peft_model(model, lora_config(config, model), autocast_adapter_dtype=_autocasts(config))
    check_targeted(adapted, config)
    if _autocasts(config):
        keep_head_in_full(adapted, config)
    if keys.loftq_bits is not None:
        start_from_residual(adapted, config)
    remember_start(adapted)
    return adapted


def load_adapter(model: Any, config: Config, folder: Path, *, trainable: bool = False) -> Any:
    """The base model with a saved adapter, to train it further or to run it.

    Raises:
        ModelError: there is no adapter in the folder (or hub repository), or it fits another model.
    """
    from peft import PeftModel

    try:
        adapted = PeftModel.from_pretrained(
            model, str(folder), is_trainable=trainable, autocast_adapter_dtype=_autocasts(config)
        )
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"cannot load the adapter {folder}: {first_line(error)}", "check lora_model_dir", 2) from error
    if config.adapter.loftq_bits is not None:
        round_base(adapted, config)
    if (folder / relora.FOLDER).is_dir():  # a checkpoint of ReLoRA: its adapter is on a base with others in it
        relora.MergedAdapters(adapted, config).read(folder)
    return adapted


def _autocasts(config: Config) -> bool:
    return config.adapter.peft_autocast_adapter_dtype is not False


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
        "init_lora_weights": True if keys.loftq_bits is not None else keys.peft_init_lora_weights,
        "layers_to_transform": keys.peft_layers_to_transform,
        "layers_pattern": keys.peft_layers_pattern,
        "rank_pattern": keys.lora_rank_pattern,
        "alpha_pattern": keys.lora_alpha_pattern,
        "exclude_modules": _excluded_modules(config, model),
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
    linear = linear_module_names(model)
    # PEFT's word for all of them does not know GPTQ's layers.
    every_linear = linear if released_quantization(model.config) == "gptq" else "all-linear"
    if not keys.lora_target_linear:
        if named is None:
            return [] if keys.lora_target_parameters else every_linear
        return every_linear if named == "all-linear" else named
    if named is None or named == "all-linear" or (isinstance(named, list) and set(named) <= set(linear)):
        return every_linear
    if isinstance(named, str):
        return rf"(?:{named})|(?:.*\.)?(?:{'|'.join(linear)})"
    return sorted({*linear, *named})


def _excluded_modules(config: Config, model: Any) -> Any:
    """``lora_exclude_modules``; a head, which is trained as a whole and PEFT then refuses an adapter on; and where all
    linear layers are meant, those that an adapter could not act in."""
    keys = config.adapter
    given = _names(keys.lora_exclude_modules)
    passed_by = modules_passed_by(model) if keys.lora_target_linear or _all_linear(config) else []
    more = [*passed_by, *([HEAD_MODULE] if head_of(config) is not None else [])]
    if not more:
        return given
    if isinstance(given, str):
        return rf"(?:{given})|(?:.*\.)?(?:{'|'.join(more)})"
    return [*(given or ()), *more]


def _all_linear(config: Config) -> bool:
    return config.adapter.lora_target_modules in (None, "all-linear")


def _target_parameters(config: Config) -> list[str] | None:
    value = config.adapter.lora_target_parameters
    return [value] if isinstance(value, str) else _names(value)


def _token_indices(config: Config) -> Any:
    value = config.adapter.peft_trainable_token_indices
    return {name: list(ids) for name, ids in value.items()} if isinstance(value, dict) else _names(value)


def _names(value: Any) -> Any:
    """PEFT takes lists where a frozen configuration has tuples."""
    return list(value) if isinstance(value, tuple) else value
