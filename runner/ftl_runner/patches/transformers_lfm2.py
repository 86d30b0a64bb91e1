"""LFM2's short convolution must not look over the border between packed sequences.

The layer hands ``seq_idx`` (the number of the sequence that each token belongs to) on to its convolution. The kernel of
the package causal-conv1d honours it on a GPU; the PyTorch version, which runs everywhere else, drops it. Here it does
what the kernel does.

Upstream: https://github.com/huggingface/transformers/blob/v5.17.0/src/transformers/models/lfm2/modeling_lfm2.py
(``causal_conv1d_fn``); to be removed when the PyTorch version takes ``seq_idx``.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from packaging.specifiers import SpecifierSet

from ftl_runner.models.errors import ModelError

if TYPE_CHECKING:
    import torch

VERSIONS = SpecifierSet(">=5.17,<5.18")
MODULES = {
    "lfm2": "transformers.models.lfm2.modeling_lfm2",
    "lfm2_moe": "transformers.models.lfm2_moe.modeling_lfm2_moe",
}
_NAME = "causal_conv1d_fn"


def isolate_short_convolutions(model_type: str) -> None:
    """Make the convolution of ``lfm2`` or ``lfm2_moe`` honour ``seq_idx``, for the rest of this process.

    Raises:
        ModelError: this version of transformers is not one that the change was made for.
    """
    import transformers

    if transformers.__version__ not in VERSIONS:
        raise ModelError(
            f"sample_packing of {model_type} works with transformers {VERSIONS}, not {transformers.__version__}",
            "set sample_packing: false, or install such a version",
            exit_code=2,
        )
    module = import_module(MODULES[model_type])
    original = getattr(module, _NAME)
    if not hasattr(original, "without_seq_idx"):
        setattr(module, _NAME, _honouring_seq_idx(original))


def _honouring_seq_idx(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(original)
    def convolution(
        hidden_states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        activation: str | None = None,
        seq_idx: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        has_kernel = hidden_states.is_cuda and importlib.util.find_spec("causal_conv1d") is not None
        if seq_idx is None or has_kernel:
            return original(hidden_states, weight, bias, activation=activation, seq_idx=seq_idx, **kwargs)
        return causal_convolution(hidden_states, weight, bias, activation, seq_idx)

    convolution.without_seq_idx = original  # type: ignore[attr-defined]
    return convolution


def causal_convolution(
    hidden_states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
    seq_idx: torch.Tensor,
) -> torch.Tensor:
    """A depthwise causal convolution that sees tokens of the same sequence only.

    Args:
        hidden_states: (rows, channels, length).
        weight: (channels, width); the last column weighs the token itself.
        bias: (channels,) or None.
        activation: name of an activation of transformers.
        seq_idx: (rows, length), the number of each token's sequence.

    Returns:
        (rows, channels, length), in the type of ``hidden_states``.
    """
    from transformers.activations import ACT2FN

    inputs, width = hidden_states.to(weight.dtype), weight.shape[-1]
    out = inputs * weight[:, -1, None]
    for back in range(1, min(width, inputs.shape[-1])):
        same = (seq_idx[:, back:] == seq_idx[:, :-back]).unsqueeze(1)
        earlier = inputs[..., :-back] * same * weight[:, -1 - back, None]
        out = out + _moved_right(earlier, back)
    if bias is not None:
        out = out + bias[:, None]
    if activation is not None:
        out = ACT2FN[activation](out)
    return out.to(hidden_states.dtype)


def _moved_right(values: torch.Tensor, by: int) -> torch.Tensor:
    import torch

    return torch.nn.functional.pad(values, (by, 0))
