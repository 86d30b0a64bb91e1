"""A model as the estimate sees it: its weights by name and shape, and what each kind of layer keeps for backward."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a weight is: quantization, adapters and optimizers treat them differently."""

    LINEAR = "linear"
    """A linear layer's matrix: quantized by bitsandbytes, adapted by LoRA."""
    EMBEDDING = "embedding"
    HEAD = "head"
    """The output head of its own; where it is tied to the embedding there is none."""
    EXPERTS = "experts"
    """All experts of a layer in one tensor, which bitsandbytes leaves as it is."""
    OTHER = "other"
    """Norms, biases, routers, convolutions."""


@dataclass(frozen=True, slots=True)
class Weight:
    """One parameter, or the same parameter in several layers.

    ``name`` has ``{}`` where the layer's number stands. ``group`` names the tensor that a linear layer reads: layers
    with the same one (query, key and value) share what is kept of it.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    layers: tuple[int, ...] = ()
    group: str = ""
    d_in: int = 0
    """Width of what a linear layer reads."""

    @property
    def numel(self) -> int:
        """Values in one of them."""
        return math.prod(self.shape)

    @property
    def copies(self) -> int:
        return len(self.layers) or 1

    @property
    def count(self) -> int:
        """Values in all of them."""
        return self.numel * self.copies

    @property
    def module(self) -> str:
        """Name of the module that holds it."""
        return self.name.rpartition(".")[0]

    def names(self) -> Iterator[str]:
        """The full name in each layer."""
        if not self.layers:
            yield self.name
        for number in self.layers:
            yield self.name.replace("{}", str(number), 1)


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What the backward pass of layers of one kind needs, in values a token. Linear layers' inputs are not in here."""

    layers: tuple[int, ...]
    hidden: int
    norms: int = 2
    """Norms over the hidden width."""
    norm: str = "rms"
    """``rms`` (Llama's), ``gemma`` (computed in float32 to its end), ``layer`` (PyTorch's LayerNorm)."""
    normed_heads: bool = False
    """Query and key go through a norm each."""
    query: int = 0
    """Width of the query: heads x head_dim. 0 where there is no attention."""
    key: int = 0
    """Width of key and of value."""
    heads: int = 0
    window: int | None = None
    """Sliding window."""
    inner: int = 0
    """Width inside the MLP (of the experts that a token goes through, together)."""
    inner_kept: int = 3
    """Tensors of that width beside the input of the last linear layer: 3 with a gate, 1 with a plain GELU."""
    extra: float = 0.0
    """More values in the model's type."""
    extra_float32: float = 0.0
    """More values that are float32 always."""


@dataclass(frozen=True)
class Architecture:
    """A model's shapes, from its config.json."""

    model_type: str
    hidden: int
    vocabulary: int
    tied: bool
    weights: tuple[Weight, ...]
    shapes: tuple[LayerShape, ...]
    notes: tuple[str, ...] = ()
    """Where the estimate is a guess."""

    @property
    def num_parameters(self) -> int:
        return sum(weight.count for weight in self.weights)

    @property
    def num_layers(self) -> int:
        return sum(len(shape.layers) for shape in self.shapes)


def linear(
    name: str, d_out: int, d_in: int, layers: tuple[int, ...] = (), *, group: str = "", bias: bool = False
) -> list[Weight]:
    """A linear layer's matrix and bias. ``name`` is the module's."""
    found = [Weight(f"{name}.weight", (d_out, d_in), Kind.LINEAR, layers, group or name, d_in)]
    if bias:
        found.append(Weight(f"{name}.bias", (d_out,), Kind.OTHER, layers))
    return found


def norm(name: str, width: int, layers: tuple[int, ...] = (), *, bias: bool = False) -> list[Weight]:
    """A norm's weight, and its bias where it has one."""
    names = ("weight", "bias") if bias else ("weight",)
    return [Weight(f"{name}.{part}", (width,), Kind.OTHER, layers) for part in names]


def ends(embedding: str, head: str, vocabulary: int, hidden: int, *, tied: bool, bias: bool = False) -> list[Weight]:
    """Embedding and output head."""
    found = [Weight(f"{embedding}.weight", (vocabulary, hidden), Kind.EMBEDDING)]
    if not tied:
        found.append(Weight(f"{head}.weight", (vocabulary, hidden), Kind.HEAD, group="head", d_in=hidden))
    if bias:
        found.append(Weight(f"{head}.bias", (vocabulary,), Kind.OTHER))
    return found
