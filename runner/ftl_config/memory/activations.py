"""What the forward pass keeps for the backward pass, layer by layer, and the loss at the end of it.

The formulas count the tensors that autograd saves in transformers' models; tests compare them with what
``torch.autograd.graph.saved_tensors_hooks`` sees. All figures are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftl_config.memory.devices import Device
from ftl_config.memory.number_formats import FLOAT32, NumberFormat
from ftl_config.memory.trained import Holding
from ftl_config.memory.weights import Architecture, Kind, LayerShape, Weight

if TYPE_CHECKING:
    from ftl_config.schema.config import Config

_FUSED_ATTENTION = ("flash_attention_2", "flash_attention_3", "flex_attention", "flash_attention_4")
_WRITTEN_OUT = ("mpt", "rwkv")
"""Models without a fused attention."""
_PAIRED = ("dpo", "ipo", "orpo", "simpo")
"""Methods that compute two answers at a time."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro batch of a device: ``rows`` of ``length`` tokens. ``mask``: attention is given a mask."""

    rows: int
    length: int
    mask: bool

    @property
    def tokens(self) -> int:
        return self.rows * self.length


@dataclass(frozen=True)
class Setting:
    """What the formulas look at, in one place."""

    architecture: Architecture
    config: Config
    numbers: NumberFormat
    device: Device
    holding: Holding
    batch: Batch

    @property
    def attention(self) -> str:
        name = self.config.model.attn_implementation
        if self.architecture.model_type in _WRITTEN_OUT:
            return "eager"
        if name in _FUSED_ATTENTION and not self.device.is_gpu:
            return "sdpa"
        return name or "sdpa"

    @property
    def has_dropout(self) -> bool:
        return bool(self.config.adapter.adapter and self.config.adapter.lora_dropout)


def training_batch(config: Config) -> Batch:
    """The largest batch that a config can lead to: every row as long as ``sequence_len``."""
    data, rows = config.data, config.training.micro_batch_size
    if config.preference.rl in _PAIRED or config.preference.reward_model:
        rows *= 2
    joined = bool(data.sample_packing)
    padded = rows > 1 or bool(data.pad_to_sequence_len)
    return Batch(rows, data.sequence_len, mask=joined or padded)


def layer_bytes(setting: Setting, shape: LayerShape) -> float:
    """What one layer keeps, of all tokens of a batch."""
    size, tokens = setting.numbers.size, setting.batch.tokens
    per_token = (
        _norms(setting, shape)
        + _attention(setting, shape)
        + shape.inner * shape.inner_kept * size
        + shape.extra * size
        + shape.extra_float32 * FLOAT32
    )
    return tokens * (per_token + _linear_inputs(setting, shape))


def input_bytes(setting: Setting) -> float:
    """What gradient checkpointing keeps of a layer: its input."""
    return float(setting.batch.tokens * setting.architecture.hidden * setting.numbers.size)


def backward_bytes(setting: Setting, shape: LayerShape) -> float:
    """Gradients of a layer's tensors while its MLP is being gone through backwards."""
    gate = 2 if shape.inner_kept > 1 else 1
    return float(setting.batch.tokens * setting.numbers.size * ((gate + 1) * shape.inner + 2 * shape.hidden))


def end_bytes(setting: Setting) -> float:
    """What the last norm and the output head keep."""
    tokens, hidden, size = setting.batch.tokens, setting.architecture.hidden, setting.numbers.size
    trains_head = any(group.last for group in setting.holding.trained)
    full = not setting.config.adapter.adapter
    return float(tokens * hidden * (FLOAT32 + size * (1 + full + trains_head)))


def loss_bytes(setting: Setting, batch: Batch | None = None) -> float:
    """Logits and cross entropy at its largest.

    PyTorch: the logarithms of the probabilities, their gradient, and that of the logits, all float32. Liger's own
    cross entropy works in place; fused with the head it holds as many logits at a time as there are hidden states.
    """
    tokens = (batch or setting.batch).tokens
    values, keys, size = tokens * setting.architecture.vocabulary, setting.config.kernels, setting.numbers.size
    if setting.device.is_gpu and keys.liger_fused_linear_cross_entropy:
        return float(tokens * setting.architecture.hidden * (2 * size + FLOAT32))
    if setting.device.is_gpu and keys.liger_cross_entropy:
        return float(values * (FLOAT32 + (size if size < FLOAT32 else 0)))
    return float(3 * FLOAT32 * values)


def _norms(setting: Setting, shape: LayerShape) -> float:
    """Input of each norm, and the normalized values where the norm's weight is trained."""
    width = shape.norms * shape.hidden + (shape.query + shape.key if shape.normed_heads else 0)
    full = not setting.config.adapter.adapter
    size = setting.numbers.size
    if shape.norm == "layer":
        # On a GPU autocast computes LayerNorm in float32.
        return width * (FLOAT32 if setting.numbers.autocast and setting.device.is_gpu else size)
    normalized = (FLOAT32 if shape.norm == "gemma" else size) if full else 0
    return width * (FLOAT32 + normalized)


def _attention(setting: Setting, shape: LayerShape) -> float:
    """Query, key, value, result; the mask and, where there is one, key and value of every head; probabilities."""
    if not shape.heads:
        return 0.0
    size, length = setting.numbers.size, setting.batch.length
    name = setting.attention
    if name == "eager":
        probabilities = FLOAT32 + (size if size < FLOAT32 else 0)
        return float(4 * shape.query * size + shape.heads * length * probabilities)
    cut_off = shape.window is not None and shape.window < length
    mask = (setting.batch.mask or cut_off) and name not in _FUSED_ATTENTION
    key = shape.query if mask else shape.key
    kept = (2 * shape.query + 2 * key) * size + FLOAT32 * shape.heads
    return float(kept + (length * size if mask else 0))


def _linear_inputs(setting: Setting, shape: LayerShape) -> float:
    """What linear layers read, where their weights or adapters are trained; a token, in one layer.

    Layers that read the same tensor share it, but an adapter in another type, or with dropout, makes its own copy.
    """
    size = setting.numbers.size
    groups: dict[str, float] = {}
    total = 0.0
    for weight in setting.architecture.weights:
        if weight.kind is not Kind.LINEAR or not set(weight.layers) & set(shape.layers):
            continue
        if weight.name in setting.holding.trained_names:
            groups[weight.group] = weight.d_in * size
        if weight.name in setting.holding.adapted:
            total += _adapter(setting, weight, groups)
    groups.pop("attention_output", None)  # the result of attention, which is kept anyway
    return total + sum(groups.values())


def _adapter(setting: Setting, weight: Weight, groups: dict[str, float]) -> float:
    layers, rank = setting.holding.adapted[weight.name]
    size = setting.numbers.size
    own_type = setting.config.adapter.peft_autocast_adapter_dtype is not False and size < FLOAT32
    kept = float(rank * size)
    if setting.has_dropout:
        mask = 1 if setting.device.is_gpu else FLOAT32 if own_type or size == FLOAT32 else size
        kept += weight.d_in * (mask + size)
    elif own_type:
        kept += weight.d_in * size
    else:
        groups[weight.group] = weight.d_in * size
    return kept * layers / weight.copies
