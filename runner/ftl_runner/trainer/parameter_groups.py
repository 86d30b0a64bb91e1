"""Which parameter is trained at which learning rate and weight decay."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError

if TYPE_CHECKING:
    from ftl_config import Config


def has_own_rates(config: Config) -> bool:
    """Whether a key gives some parameters a learning rate of their own."""
    keys = config.training
    own = (keys.lr_groups, config.adapter.loraplus_lr_ratio, keys.embedding_lr, keys.embedding_lr_scale)
    return any(value is not None and value != () for value in own)


def parameter_groups(model: Any, config: Config, decayed: Collection[str]) -> list[dict[str, Any]]:
    """The trainable parameters as optimizer groups, those at the plain learning rate first.

    The first group's rate is the one that is logged. ``decayed`` names the parameters that weight decay applies to.

    Raises:
        FtlError: a module of ``lr_groups`` matches no trainable parameter.
    """
    embeddings = embedding_parameters(model)
    groups: dict[tuple[float, float], list[Any]] = {}
    base = config.training.learning_rate
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate, decays = _rate(name, parameter, config, id(parameter) in embeddings)
        decay = float(config.training.weight_decay) if decays and name in decayed else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    _check_lr_groups(model, config)
    ordered = sorted(groups.items(), key=lambda item: item[0][0] != base)  # stable: else in the model's order
    return [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in ordered]


def embedding_parameters(model: Any) -> set[int]:
    """Ids of the parameters of the input embedding and the output head, full copies beside an adapter included."""
    modules = [model.get_input_embeddings(), model.get_output_embeddings()]
    return {id(parameter) for module in modules if module is not None for parameter in module.parameters()}


def _rate(name: str, parameter: Any, config: Config, is_embedding: bool) -> tuple[float, bool]:
    """Learning rate, and whether weight decay may apply."""
    keys, adapter = config.training, config.adapter
    if is_embedding and "lora_" not in name:
        if keys.embedding_lr_scale is not None:
            return keys.learning_rate * keys.embedding_lr_scale, False
        if keys.embedding_lr is not None:
            return keys.embedding_lr, False
    for group in keys.lr_groups or ():
        if any(part in name for part in group.modules):
            return group.lr, True
    if adapter.loraplus_lr_ratio is not None:
        if "lora_embedding_" in name:
            return adapter.loraplus_lr_embedding, True
        if "lora_B" in name or parameter.ndim == 1:  # what PEFT's LoRA+ takes to be on B's side (arXiv:2402.12354)
            return keys.learning_rate * adapter.loraplus_lr_ratio, parameter.ndim > 1
    return keys.learning_rate, True


def _check_lr_groups(model: Any, config: Config) -> None:
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for group in config.training.lr_groups or ():
        for part in group.modules:
            if not any(part in name for name in trained):
                parts = sorted({name.split(".")[-2] for name in trained if "." in name})
                raise FtlError(
                    f"lr_groups {group.name!r}: no trained parameter has {part!r} in its name",
                    f"parts of their names are {', '.join(parts[:20])}",
                    exit_code=2,
                )
