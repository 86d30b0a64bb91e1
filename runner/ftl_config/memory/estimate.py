"""The peak of a training run on one device, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.memory.activations import (
    Batch,
    Setting,
    backward_bytes,
    end_bytes,
    input_bytes,
    layer_bytes,
    loss_bytes,
    training_batch,
)
from ftl_config.memory.architecture import read_architecture
from ftl_config.memory.devices import GIB, MIB, Device
from ftl_config.memory.number_formats import FLOAT32, number_format, weight_bytes
from ftl_config.memory.optimizer_states import state_bytes, step_bytes
from ftl_config.memory.sharding import Sharding, sharding
from ftl_config.memory.trained import Trained, hold
from ftl_config.memory.weights import Kind

if TYPE_CHECKING:
    from ftl_config.schema.config import Config

_CONTEXT = 600 * MIB
"""A process's own share of a GPU: driver context, cuBLAS workspaces. Not measured here."""
_COLLECTIVES = 600 * MIB
"""Buffers of NCCL or RCCL. Not measured here."""
_FRAGMENTATION = 0.04
"""Share of what PyTorch's allocator takes from a GPU and cannot use. Not measured here."""
_REFERENCE = ("dpo", "ipo", "kto", "grpo", "gdpo")
"""Methods that compare with a frozen copy of the model; an adapter is simply switched off."""


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the breakdown."""

    name: str
    num_bytes: float
    note: str = ""


@dataclass(frozen=True)
class Estimate:
    """The predicted peak of one device and its parts, largest first where they can be chosen."""

    parts: tuple[Part, ...]
    device: Device
    num_devices: int
    num_parameters: int
    num_trained: int
    sharding: str
    batch: Batch
    notes: tuple[str, ...] = ()

    @property
    def peak_bytes(self) -> float:
        return sum(part.num_bytes for part in self.parts)

    @property
    def share(self) -> float:
        """Of the device's memory."""
        return self.peak_bytes / self.device.memory_bytes

    def part(self, name: str) -> float:
        """Bytes of a part; 0 where there is none of that name."""
        return sum(part.num_bytes for part in self.parts if part.name == name)


def estimate(
    config: Config,
    model_config: Mapping[str, Any],
    device: Device,
    num_devices: int,
    *,
    root: Path = Path(),
    batch: Batch | None = None,
) -> Estimate:
    """Predict the peak.

    Args:
        config: what is trained, and how.
        model_config: the model's config.json.
        device: what each training process computes on.
        num_devices: training processes of the whole run.
        root: folder that relative paths in the config start from.
        batch: the batch at hand; the largest that the config allows when left out.

    Raises:
        FtlError: the model's shapes are not in its config.json.
    """
    architecture = read_architecture(model_config)
    numbers = number_format(config, device)
    holding = hold(architecture, config, numbers)
    setting = Setting(architecture, config, numbers, device, holding, batch or training_batch(config))
    spread = sharding(config, numbers, num_devices, root, architecture.hidden)
    kept = _kept(setting, spread, num_devices)
    at_peak = max(_moments(setting, spread), key=lambda moment: sum(part.num_bytes for part in moment))
    parts = [part for part in (*kept, *at_peak) if part.num_bytes]
    return Estimate(
        (*parts, *_reserve(device, num_devices, sum(part.num_bytes for part in parts))),
        device,
        num_devices,
        architecture.num_parameters + holding.adapter_count,
        holding.trained_count,
        spread.name,
        setting.batch,
        architecture.notes,
    )


def _kept(setting: Setting, spread: Sharding, num_devices: int) -> list[Part]:
    """What is there from the first step to the last."""
    holding, config = setting.holding, setting.config
    on_device = 0 if spread.offload_weights else 1
    trained = sum(group.count * _size(group, spread) for group in holding.trained)
    adapter = bool(config.adapter.adapter)
    parts = [Part("weights", on_device * (holding.frozen_bytes + (0 if adapter else trained)) / spread.weights)]
    if adapter:
        parts.append(Part("adapter weights", on_device * trained / spread.weights))
    if not spread.offload_states:
        size = FLOAT32 if spread.master else spread.size
        states = state_bytes(config, holding.trained, size=size) / spread.states
        master = holding.trained_count * FLOAT32 / spread.states if spread.master else 0
        parts.append(Part("optimizer states", states + master, "with float32 weights" if spread.master else ""))
    parts.append(Part("communication", _communication(setting, spread, num_devices)))
    parts.append(Part("reference model", _reference(setting, spread)))
    return parts


def _size(group: Trained, spread: Sharding) -> float:
    return group.size if spread.size is None else spread.size


def _communication(setting: Setting, spread: Sharding, num_devices: int) -> float:
    """Gradient buckets, and layers that are put together from their shards."""
    holding = setting.holding
    low = setting.numbers.size
    total: float = min(spread.bucket, holding.trained_count) * spread.buckets * (spread.size or FLOAT32)
    if spread.name == "DDP":
        total = holding.size_of()  # DDP's buckets hold the gradients a second time
    if not spread.gathers or (num_devices == 1 and not spread.offload_weights):
        return float(total)
    architecture = setting.architecture
    if spread.keeps_gathered:
        return float(total + architecture.num_parameters * low)
    inner = (weight for weight in architecture.weights if weight.layers)
    layer = sum(weight_bytes(weight, setting.config, setting.numbers) / weight.copies for weight in inner)
    ends = sum(weight.count * low for weight in architecture.weights if weight.kind in (Kind.EMBEDDING, Kind.HEAD))
    return float(total + 2 * layer + ends)


def _reference(setting: Setting, spread: Sharding) -> float:
    preference = setting.config.preference
    if preference.rl not in _REFERENCE or setting.config.adapter.adapter:
        return 0.0
    return setting.architecture.num_parameters * setting.numbers.size / spread.weights


def _moments(setting: Setting, spread: Sharding) -> list[list[Part]]:
    """The moments of a step at which memory may be at its largest, each with what is there besides ``_kept``."""
    kept, layer, loss = _activations(setting)
    gradients = _gradients(setting, spread)
    before = gradients if accumulation(setting.config) > 1 else 0.0
    first = before or _head_gradient(setting, spread)
    at_end = _last_gradient(setting)
    moments = [
        [Part("gradients", before), Part("activations", kept), Part("logits and loss", loss)],
        # The head's turn: of the loss the gradient of the logits is left.
        [Part("gradients", first), Part("activations", kept), Part("logits and loss", loss / 3)],
        [Part("gradients", first), Part("activations", kept + layer)],
        [Part("gradients", gradients + at_end), Part("activations", min(kept, layer))],
        [Part("gradients", gradients), Part("optimizer step", _step(setting, spread))],
    ]
    evaluated = _evaluation(setting)
    if evaluated is not None:
        moments.append([Part("activations", input_bytes(setting)), Part("logits and loss", evaluated)])
    return moments


def _activations(setting: Setting) -> tuple[float, float, float]:
    """(kept from forward to backward, more while one layer is gone through backwards, logits and loss)."""
    shapes = setting.architecture.shapes
    layers = sum(len(shape.layers) * layer_bytes(setting, shape) for shape in shapes)
    one = max(layer_bytes(setting, shape) for shape in shapes)
    gradients = max(backward_bytes(setting, shape) for shape in shapes)
    masks = _shared(setting)
    if setting.config.training.gradient_checkpointing:
        kept = setting.architecture.num_layers * input_bytes(setting) + end_bytes(setting) + masks
        return kept, one + gradients, loss_bytes(setting)
    return layers + end_bytes(setting) + masks, gradients, loss_bytes(setting)


def _shared(setting: Setting) -> float:
    """The mask that all layers are given: a byte for each pair of positions."""
    batch = setting.batch
    return float(batch.rows * batch.length**2) if batch.mask and setting.attention == "sdpa" else 0.0


def accumulation(config: Config) -> int:
    """Micro batches of a step on one device."""
    keys = config.training
    return max(1, keys.batch_size // keys.micro_batch_size) if keys.batch_size else keys.gradient_accumulation_steps


def _gradients(setting: Setting, spread: Sharding) -> float:
    if setting.config.training.optimizer in ("lomo", "adalomo") or spread.offload_weights:
        return 0.0
    total = sum(group.count * _size(group, spread) for group in setting.holding.trained)
    return total / spread.gradients


def _head_gradient(setting: Setting, spread: Sharding) -> float:
    return sum(group.count * _size(group, spread) for group in setting.holding.trained if group.last)


def _last_gradient(setting: Setting) -> float:
    """A tied embedding gets a second gradient at the end, before the two are added."""
    if not setting.architecture.tied:
        return 0.0
    return sum(group.count * group.size for group in setting.holding.trained if group.last)


def _step(setting: Setting, spread: Sharding) -> float:
    if spread.offload_states:
        return 0.0
    size = FLOAT32 if spread.master else spread.size
    step = step_bytes(setting.config, setting.holding.trained, is_gpu=setting.device.is_gpu, size=size) / spread.states
    upcast = setting.holding.trained_count * FLOAT32 / spread.states if spread.master and spread.size == 2 else 0
    return step + upcast


def _evaluation(setting: Setting) -> float | None:
    """Logits of an evaluation batch: at all positions, in the model's type and in float32."""
    config = setting.config
    if not (config.data.val_set_size or config.data.test_datasets) or config.checkpointing.eval_strategy == "no":
        return None
    rows = config.training.eval_batch_size or config.training.micro_batch_size
    length = config.data.eval_sequence_len or config.data.sequence_len
    values = rows * length * setting.architecture.vocabulary
    return float(values * (2 * FLOAT32 + (setting.numbers.size if setting.numbers.size < FLOAT32 else 0)))


def _reserve(device: Device, num_devices: int, total: float) -> list[Part]:
    if not device.is_gpu:
        return []
    context = _CONTEXT + (_COLLECTIVES if num_devices > 1 else 0)
    return [Part("context and fragmentation", context + _FRAGMENTATION * total)]


def gib(num_bytes: float) -> str:
    """``12.3 GiB``, ``845 MiB``."""
    if abs(num_bytes) >= GIB:
        return f"{num_bytes / GIB:.1f} GiB"
    return f"{num_bytes / MIB:.0f} MiB"
