"""FSDP2: the ``fsdp*`` keys as arguments of transformers' Trainer, and what those arguments do not cover."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError
from ftl_config.schema.distributed import FsdpConfig
from ftl_config.suggest import closest
from ftl_runner.patches.accelerate_fsdp_cpu import allow_fsdp_on_cpu

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    from ftl_config import Config

logger = logging.getLogger(__name__)

_BY_TRAINER = (
    "activation_checkpointing",
    "auto_wrap_policy",
    "cpu_ram_efficient_loading",
    "min_num_params",
    "reshard_after_forward",
    "state_dict_type",
)
"""Settings that transformers reads under our names."""


def fsdp_arguments(config: Config, world_size: int) -> dict[str, Any]:
    """``fsdp`` and ``fsdp_config`` for ``TrainingArguments``; empty where there is nothing to shard over."""
    if config.distributed.fsdp_key is None:
        return {}
    if world_size == 1:
        logger.warning("fsdp: one process has nothing to shard; for N: --launcher torchrun -- --nproc_per_node=N")
        return {}
    settings, words = _settings(config), config.distributed.fsdp or ()
    given = settings.model_dump(include=set(_BY_TRAINER), exclude_none=True)
    if "shard_grad_op" in words:  # the first FSDP's list of words
        given.setdefault("reshard_after_forward", False)
    given["cpu_offload"] = bool(settings.offload_params) or "offload" in words
    given["version"] = 2
    if settings.auto_wrap_policy != "SIZE_BASED_WRAP" and (names := wrapped_classes(config)):
        given["transformer_layer_cls_to_wrap"] = names
    return {"fsdp": True, "fsdp_config": given}


def complete_fsdp_arguments(arguments: TrainingArguments, config: Config, *, use_cpu: bool) -> None:
    """What Accelerate's FSDP plugin takes and transformers has no words for: pinned memory, and the number format."""
    plugin: dict[str, Any] | None = arguments.fsdp_plugin_args
    if plugin is None:
        return
    if use_cpu:
        allow_fsdp_on_cpu()
    settings = _settings(config)
    if settings.mixed_precision_policy:
        plugin["mixed_precision_policy"] = settings.mixed_precision_policy
    if plugin.get("cpu_offload"):
        from torch.distributed.fsdp import CPUOffloadPolicy

        # Page-locked memory is for copies to a device.
        plugin["cpu_offload"] = CPUOffloadPolicy(
            pin_memory=settings.cpu_offload_pin_memory is not False and not use_cpu
        )


def wrapped_classes(config: Config) -> list[str]:
    """The layer classes of ``transformer_layer_cls_to_wrap``; none means those that the model's code names."""
    return [name.strip() for name in (_settings(config).transformer_layer_cls_to_wrap or "").split(",") if name.strip()]


def check_shardable(config: Config, model: Any) -> None:
    """See that FSDP can shard this base model as the config says; does nothing without FSDP.

    Raises:
        FtlError: a layer class that the model does not have, or an embedding that is trained beside an adapter and
            tied to one that is not: Accelerate would tie the two.
    """
    if config.distributed.fsdp_key is None:
        return
    _check_wrapped_classes(config, model)
    saved = set(config.adapter.lora_modules_to_save or ())
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    if not saved or ends[1] is None or ends[0].weight is not ends[1].weight:
        return
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in saved and module in ends:
            raise FtlError(
                f"lora_modules_to_save: {name.rpartition('.')[2]} of {type(model).__name__} shares its weight with the "
                "other end of the model, which FSDP cannot keep apart",
                "use deepspeed: zero3.json, or leave it out of lora_modules_to_save",
                exit_code=2,
            )


def _check_wrapped_classes(config: Config, model: Any) -> None:
    layers = _layer_classes(model)
    present = {type(module).__name__ for module in model.modules()}
    for name in wrapped_classes(config):
        if name in present:
            continue
        match = closest(name, present) or closest(name, layers)
        hint = f"did you mean `{match}`?" if match else f"its layers are {', '.join(layers)}; or leave the key out"
        raise FtlError(
            f"fsdp_config.transformer_layer_cls_to_wrap: {type(model).__name__} has no layers of class {name}",
            hint,
            exit_code=2,
        )


def gather_at_save(trainer: Trainer) -> None:
    """From now on models are saved in one piece, however the checkpoints before were."""
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")


def _settings(config: Config) -> FsdpConfig:
    return config.distributed.fsdp_config or FsdpConfig()


def _layer_classes(model: Any) -> list[str]:
    """Classes of modules that repeat in a list, as layers do; innermost parts are left out."""
    from torch.nn import ModuleList

    lists = [module for module in model.modules() if isinstance(module, ModuleList)]
    return sorted({type(layer).__name__ for layers in lists for layer in layers if any(layer.children())})
