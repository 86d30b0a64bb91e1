"""LoftQ: an adapter that starts with what quantization took from the base (arXiv:2310.08659, one iteration).

With Q the quantized W, B and A are the best approximation of rank r to W - Q: at the start Q + s B A is nearer to W
than Q is. PEFT has it for GPUs alone, and forgets the scale s. With ``load_in_4bit`` the base is quantized and W is
read from its files; without, the base stays in its type and is rounded to what the quantized one would hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ftl_runner.models.base_files import find_base_files
from ftl_runner.models.layers import (
    ADAPTER,
    Imitation,
    full_weight,
    is_linear,
    is_quantized,
    lora_layers,
    set_weight,
    weight_of,
)
from ftl_runner.models.precision import choose_precision

if TYPE_CHECKING:
    import torch

    from ftl_config import Config


def start_from_residual(model: Any, config: Config) -> None:
    """Fill a new adapter, and round the base where it is not quantized.

    Raises:
        ModelError: the full weights of a quantized base cannot be found.
    """
    if not (config.adapter.load_in_4bit or config.adapter.load_in_8bit):
        for layer, whole in _rounded(model, config):
            _fill(layer, whole - weight_of(layer))
        return
    files = find_base_files(config)
    for name, layer in lora_layers(model):
        if is_linear(layer) and is_quantized(layer):
            _fill(layer, full_weight(files, name, layer, model) - weight_of(layer))


def round_base(model: Any, config: Config) -> None:
    """Round the adapted layers of a base held in full to what a quantized one would hold."""
    for _ in _rounded(model, config):
        pass


def _rounded(model: Any, config: Config) -> Iterator[tuple[Any, torch.Tensor]]:
    """Layer by layer, after it was rounded, with its weight before."""
    imitation, plain = Imitation(config, choose_precision(config)), model.base_model.model
    for name, layer in lora_layers(model):
        if is_linear(layer) and not is_quantized(layer) and imitation.applies(name, plain):
            before = weight_of(layer).clone()
            set_weight(layer, imitation.of(before))
            yield layer, before


def _fill(layer: Any, residual: torch.Tensor) -> None:
    import torch

    a, b = low_rank(residual, layer.r[ADAPTER])
    share = layer.scaling[ADAPTER] ** 0.5
    with torch.no_grad():
        layer.lora_A[ADAPTER].weight[: len(a)].copy_(a / share)  # a rank beyond the matrix's own starts as usual
        layer.lora_B[ADAPTER].weight[:, : len(a)].copy_(b / share)


def low_rank(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A (rank x in) and B (out x rank), of like size, whose product B A is nearest to an (out x in) matrix.

    The singular vectors come from the smaller Gram matrix: several times faster than a full decomposition.
    """
    import torch

    if matrix.shape[0] > matrix.shape[1]:
        b, a = low_rank(matrix.T, rank)
        return a.T, b.T
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    top = vectors[:, -rank:]
    sizes = values[-rank:].clamp(min=1e-20) ** 0.25  # square roots of the singular values
    return (top / sizes).T @ matrix, top * sizes
