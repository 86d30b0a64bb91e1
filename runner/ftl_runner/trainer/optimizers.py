"""Optimizers: transformers' by name, and those that only Axolotl's keys name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError
from ftl_config.optimizers import ALIASES, OWN_OPTIMIZERS, optimizer_package
from ftl_runner.trainer.parameter_groups import embedding_parameters, parameter_groups

if TYPE_CHECKING:
    from ftl_config import Config

Choice = tuple[Any, dict[str, Any]]
"""An optimizer class and its arguments, as ``Trainer(optimizer_cls_and_kwargs=...)`` takes them."""

_OWN_CLASSES = {
    "muon": ("ftl_runner.trainer.muon", "MuonWithAdamW"),
    "adopt_adamw": ("ftl_runner.trainer.adopt", "Adopt"),
    "optimi_adamw": ("optimi", "AdamW"),
    "came_pytorch": ("came_pytorch", "CAME"),
    "ao_adamw_fp8": ("torchao.optim", "AdamWFp8"),
}


def check_optimizer(config: Config) -> None:
    """Say that a package is missing before the model is loaded.

    Raises:
        FtlError: naming the package, or an argument in ``optim_args`` that the optimizer does not take.
    """
    name = config.training.optimizer
    package = optimizer_package(name)
    if package is not None and importlib.util.find_spec(package[0]) is None:
        raise FtlError(f"optimizer: {name} needs the package {package[1]}", f"pip install {package[1]}", exit_code=2)
    if name in OWN_OPTIMIZERS:
        _own_choice(config)


def transformers_name(config: Config) -> str:
    """What ``TrainingArguments(optim=...)`` is given; a plain name where the optimizer is ours."""
    name = config.training.optimizer
    return "adamw_torch" if name in OWN_OPTIMIZERS else ALIASES.get(name, name)


def own_choice(config: Config, model: Any, decayed: Collection[str]) -> Choice:
    """An optimizer that transformers has no name for, with its parameter groups under ``params``."""
    made, options = _own_choice(config)
    groups = parameter_groups(model, config, decayed)
    if config.training.optimizer == "muon":
        groups = _split_matrices(groups, embedding_parameters(model))
    return made, {**options, "params": groups}


def grouped_choice(config: Config, choice: Choice, model: Any, decayed: Collection[str]) -> Choice:
    """transformers' choice with our parameter groups.

    Raises:
        FtlError: the optimizer makes parameter groups of its own.
    """
    made, options = choice
    if {"params", "model", "optimizer_dict"} & set(options):
        raise FtlError(
            f"optimizer: {config.training.optimizer} cannot have learning rates by parameter group",
            "leave out loraplus_lr_ratio, embedding_lr, embedding_lr_scale and lr_groups",
            exit_code=2,
        )
    return made, {**options, "params": parameter_groups(model, config, decayed)}


def _own_choice(config: Config) -> Choice:
    """Class and arguments, but for the parameters."""
    keys = config.training
    made = _own_class(keys.optimizer)
    options: dict[str, Any] = {"lr": keys.learning_rate, "weight_decay": float(keys.weight_decay)}
    defaults = inspect.signature(made).parameters
    options |= _given("betas", defaults["betas"].default, keys.adam_beta1, keys.adam_beta2, keys.adam_beta3)
    options |= _given("eps", defaults["eps"].default, keys.adam_epsilon, keys.adam_epsilon2)
    more = optim_args(config)
    known = [name for name in defaults if name != "params"]
    for name in more:
        if name not in known:
            hint = f"known are {', '.join(known)}"
            raise FtlError(f"optim_args: {keys.optimizer} has no argument {name!r}", hint, exit_code=2)
    return made, options | more


def _given(name: str, usual: Any, *values: float | None) -> dict[str, Any]:
    """The values that the user gave in place of the usual ones, or nothing where none was given."""
    if all(value is None for value in values):
        return {}
    if not isinstance(usual, tuple):
        return {name: values[0]} if values[0] is not None else {}
    pairs = zip(values[: len(usual)], usual, strict=True)
    return {name: tuple(own if value is None else value for value, own in pairs)}


def _own_class(name: str) -> Any:
    module, made = _OWN_CLASSES[name]
    return getattr(importlib.import_module(module), made)


def optim_args(config: Config) -> dict[str, Any]:
    """``optim_args`` as typed values, from a mapping or from ``name=value,name=value``."""
    import yaml

    value = config.training.optim_args
    if not isinstance(value, str):
        return dict(value or {})
    pairs = [pair.partition("=") for pair in value.replace(" ", "").split(",") if pair]
    return {name: yaml.safe_load(text) for name, _, text in pairs}


def _split_matrices(groups: list[dict[str, Any]], embeddings: set[int]) -> list[dict[str, Any]]:
    """Each group as one of matrices for Muon and one of all else; embeddings and heads are not Muon's."""
    split = []
    for use_muon in (True, False):
        for group in groups:
            members = [p for p in group["params"] if (p.ndim == 2 and id(p) not in embeddings) is use_muon]
            if members:
                split.append({**group, "params": members, "use_muon": use_muon})
    return split
