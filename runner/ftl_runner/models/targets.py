"""What the adapter keys name in a model: looked up before PEFT is asked, which passes over a name that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ftl_config.suggest import did_you_mean
from ftl_runner.models.errors import ModelError
from ftl_runner.models.heads import HEAD_MODULE
from ftl_runner.models.quantization import released_quantization

if TYPE_CHECKING:
    from ftl_config import Config

_MOST_NAMES = 40
_STATE_SPACE = ("dt_proj", "x_proj", "out_proj")
_PASSED_BY = {
    "jamba": ("dt_proj",),
    **dict.fromkeys(("mamba", "falcon_mamba"), _STATE_SPACE),
    **dict.fromkeys(("mamba2", "falcon_h1", "nemotron_h", "bamba", "granitemoehybrid"), ("out_proj",)),
}
"""By model type: linear layers whose weight the model's code takes, without calling the layer."""


def check_targets(model: Any, config: Config) -> None:
    """Every name in ``lora_target_modules``, ``lora_modules_to_save`` and ``lora_target_parameters`` is in the model.

    Raises:
        ModelError: with exit code 2 and the names that there are.
    """
    keys = config.adapter
    modules = [name for name, _ in model.named_modules() if name]
    named = keys.lora_target_modules
    if isinstance(named, str) and named != "all-linear" and not any(re.fullmatch(named, name) for name in modules):
        raise _no_module("lora_target_modules", named, model)
    for name in named if isinstance(named, tuple) else ():
        if not _ends(modules, name):
            raise _no_module("lora_target_modules", name, model)
    for name in keys.lora_modules_to_save or ():
        if not _ends(modules, name):
            raise _unknown("lora_modules_to_save", name, "module", modules)
    parameters = keys.lora_target_parameters
    for name in (parameters,) if isinstance(parameters, str) else parameters or ():
        names = [name for name, _ in model.named_parameters()]
        if not _ends(names, name):
            raise _unknown("lora_target_parameters", name, "parameter", names)


def check_targeted(model: Any, config: Config) -> None:
    """What can only be said of the modules that got an adapter: patterns that match none, layers that are not there.

    Raises:
        ModelError: with exit code 2.
    """
    keys, targeted = config.adapter, [str(name) for name in model.base_model.targeted_module_names]
    ends = sorted({name.rpartition(".")[2] for name in targeted})
    for key, patterns in (
        ("lora_rank_pattern", keys.lora_rank_pattern),
        ("lora_alpha_pattern", keys.lora_alpha_pattern),
    ):
        for pattern in patterns or ():
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in targeted):
                raise ModelError(f"{key}: {pattern!r} matches no module that has an adapter", _list(ends), 2)
    layers = sorted({int(number) for name in targeted for number in re.findall(r"(?<=\.)\d+(?=\.)", name)})
    for number in keys.peft_layers_to_transform or ():
        if number not in layers:
            hint = f"layers are counted from 0 to {model.config.get_text_config().num_hidden_layers - 1}"
            raise ModelError(f"peft_layers_to_transform: there is no layer {number}", hint, 2)


def linear_module_names(model: Any) -> list[str]:
    """The last name parts of the model's linear modules but its head, sorted: what ``lora_target_modules`` can name."""
    import torch
    from transformers.pytorch_utils import Conv1D

    kinds: tuple[type, ...] = (torch.nn.Linear, Conv1D)
    if released_quantization(model.config) == "gptq":
        from gptqmodel.nn_modules.qlinear import BaseQuantLinear

        kinds += (BaseQuantLinear,)
    writes = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    heads = (writes, getattr(model, HEAD_MODULE, None))
    modules = {name: module for name, module in model.named_modules() if not any(module is head for head in heads)}
    names = {name.rpartition(".")[2] for name, module in modules.items() if isinstance(module, kinds)}
    return sorted(name for name in names if not name.isdigit())


def modules_passed_by(model: Any) -> tuple[str, ...]:
    """Names of linear layers in which an adapter would have no effect, as their code is not run."""
    return _PASSED_BY.get(str(getattr(model.config, "model_type", "")), ())


def _ends(names: Iterable[str], wanted: str) -> bool:
    return any(name == wanted or name.endswith(f".{wanted}") for name in names)


def _no_module(key: str, name: str, model: Any) -> ModelError:
    names = linear_module_names(model)
    meant = did_you_mean(name, names)
    hint = f"its linear modules are: {', '.join(names)}"
    return ModelError(f"{key}: {name!r} names no module of this model", f"{meant} {hint}" if meant else hint, 2)


def _unknown(key: str, name: str, kind: str, names: Iterable[str]) -> ModelError:
    ends = {re.sub(r"^.*\.\d+\.", "", full) for full in names}
    return ModelError(f"{key}: {name!r} names no {kind} of this model", _list(sorted(ends)), 2)


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"there are {', '.join(names[:_MOST_NAMES])}{more}"
