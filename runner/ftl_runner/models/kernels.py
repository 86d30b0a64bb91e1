"""Liger's Triton kernels (arXiv:2410.10989): the ``liger_*`` keys as arguments of transformers' Trainer.

They compute what the model computes, faster and in less memory, on GPUs. A CPU run goes on without them.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from ftl_runner.models.errors import ModelError

if TYPE_CHECKING:
    from ftl_config import Config

# Ours to Liger's; which of the two activations a model has, Liger knows.
_NAMES = {
    "liger_rope": ("rope",),
    "liger_rms_norm": ("rms_norm",),
    "liger_layer_norm": ("layer_norm",),
    "liger_glu_activation": ("swiglu", "geglu"),
    "liger_cross_entropy": ("cross_entropy",),
    "liger_fused_linear_cross_entropy": ("fused_linear_cross_entropy",),
}


def liger_arguments(config: Config, *, use_cpu: bool) -> dict[str, Any]:
    """``use_liger_kernel`` and ``liger_kernel_config`` for ``TrainingArguments``; empty on a CPU.

    Raises:
        ModelError: kernels are asked for on a GPU, and liger-kernel is not installed.
    """
    wanted = _wanted(config)
    if not wanted or use_cpu:
        return {}
    if importlib.util.find_spec("liger_kernel") is None:
        raise ModelError(f"{wanted[0]} needs the package liger-kernel", "pip install liger-kernel, or use our image")
    # Liger turns most kernels on by itself, so those not asked for are said too.
    kernels = {name: key in wanted for key, names in _NAMES.items() for name in names}
    return {"use_liger_kernel": True, "liger_kernel_config": kernels}


def liger_warning(config: Config, model_type: str, *, use_cpu: bool) -> str | None:
    """What to say where kernels are asked for and none will run."""
    wanted = _wanted(config)
    if not wanted:
        return None
    names = ", ".join(wanted)
    if use_cpu:
        return f"{names}: no effect on a CPU (Liger's kernels are for GPUs; results are the same without them)"
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    if model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        return f"{names}: no effect, Liger has no kernels for models of type {model_type}"
    return None


def _wanted(config: Config) -> list[str]:
    keys = config.kernels
    switches = {
        "liger_rope": keys.liger_rope,
        "liger_rms_norm": keys.liger_rms_norm,
        "liger_layer_norm": keys.liger_layer_norm,
        "liger_glu_activation": keys.liger_glu_activation,
        "liger_cross_entropy": keys.liger_cross_entropy,
        "liger_fused_linear_cross_entropy": keys.liger_fused_linear_cross_entropy,
    }
    return [name for name, on in switches.items() if on]
