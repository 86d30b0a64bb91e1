"""Which weights are trained, and which modules have an adapter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftl_config.memory.number_formats import FLOAT32, NumberFormat, weight_bytes
from ftl_config.memory.weights import Architecture, Kind, Weight
from ftl_config.unfrozen import parse_unfrozen

if TYPE_CHECKING:
    from ftl_config.schema.config import Config

DEFAULT_RANK = 8


@dataclass(frozen=True, slots=True)
class Trained:
    """Trained values of one shape: ``copies`` tensors of ``rows`` x ``columns``, ``size`` bytes a value.

    ``columns`` is 0 for anything that is not a matrix. ``last`` marks the output head (or the embedding that it is tied
    to): its gradient is the first that there is.
    """

    rows: int
    columns: int
    copies: int
    size: float
    last: bool = False

    @property
    def numel(self) -> int:
        return self.rows * (self.columns or 1)

    @property
    def count(self) -> int:
        return self.numel * self.copies


@dataclass(frozen=True)
class Holding:
    """The weights of a run: frozen bytes, trained values, and the modules that have an adapter.

    ``adapted`` maps the name of a weight to (layers with an adapter, rank).
    """

    frozen_bytes: float
    trained: tuple[Trained, ...]
    adapted: dict[str, tuple[int, int]]
    trained_names: frozenset[str]
    """Names (with ``{}``) of base weights that are trained."""
    adapter_count: int = 0

    @property
    def trained_count(self) -> int:
        return sum(group.count for group in self.trained)

    def size_of(self, factor: float = 1.0) -> float:
        """Bytes of all trained values in their own type."""
        return factor * sum(group.count * group.size for group in self.trained)


def hold(architecture: Architecture, config: Config, numbers: NumberFormat) -> Holding:
    """What of a model is trained under a config."""
    if config.adapter.adapter is not None:
        return _with_adapter(architecture, config, numbers)
    patterns = [parse_unfrozen(entry).regex for entry in config.training.unfrozen_parameters or ()]
    frozen, trained, names = 0.0, [], set()
    for weight in architecture.weights:
        chosen = _matching(weight, patterns) if patterns else weight.copies
        frozen += weight_bytes(weight, config, numbers) * (1 - chosen / weight.copies)
        if chosen:
            trained.append(_group(weight, chosen, numbers.size, architecture))
            names.add(weight.name)
    return Holding(frozen, tuple(trained), {}, frozenset(names))


def _matching(weight: Weight, patterns: Sequence[re.Pattern[str]]) -> int:
    return sum(any(pattern.match(name) for pattern in patterns) for name in weight.names())


def _group(weight: Weight, copies: int, size: float, architecture: Architecture) -> Trained:
    last = weight.kind is Kind.HEAD or (weight.kind is Kind.EMBEDDING and architecture.tied)
    if len(weight.shape) < 2:
        return Trained(weight.numel, 0, copies, size)
    return Trained(weight.numel // weight.shape[-1], weight.shape[-1], copies, size, last)


def _with_adapter(architecture: Architecture, config: Config, numbers: NumberFormat) -> Holding:
    keys = config.adapter
    frozen = sum(weight_bytes(weight, config, numbers) for weight in architecture.weights)
    size = numbers.size if keys.peft_autocast_adapter_dtype is False else FLOAT32
    trained: list[Trained] = []
    adapted: dict[str, tuple[int, int]] = {}
    for weight in architecture.weights:
        chosen, rank = _layers_with_adapter(weight, config), _rank(weight, config)
        if chosen:
            adapted[weight.name] = (chosen, rank)
            trained += _low_rank(weight, chosen, rank, size, dora=keys.peft_use_dora)
    adapter_count = sum(group.count for group in trained)
    names = set()
    quantized = keys.load_in_4bit or keys.load_in_8bit
    for weight in architecture.weights:  # a copy beside the frozen one
        if _ends(weight.module, keys.lora_modules_to_save or ()):
            trained.append(_group(weight, weight.copies, FLOAT32 if quantized else numbers.size, architecture))
            names.add(weight.name)
    tokens = keys.peft_trainable_token_indices
    if tokens:
        rows = max(map(len, tokens.values())) if isinstance(tokens, dict) else len(tokens)
        trained.append(Trained(rows, architecture.hidden, 1, size))
    return Holding(frozen, tuple(trained), adapted, frozenset(names), adapter_count)


def _low_rank(weight: Weight, layers: int, rank: int, size: float, *, dora: bool) -> list[Trained]:
    """A and B of each module; of each expert where a parameter holds all of them."""
    *many, d_out, d_in = weight.shape
    copies = layers * (many[0] if many else 1)
    groups = [Trained(rank, d_in, copies, size), Trained(d_out, rank, copies, size)]
    return [*groups, Trained(d_out, 0, copies, size)] if dora else groups


def _layers_with_adapter(weight: Weight, config: Config) -> int:
    keys = config.adapter
    parameters = keys.lora_target_parameters
    if parameters and len(weight.shape) > 1:
        named = (parameters,) if isinstance(parameters, str) else parameters
        if _ends(weight.name, named):
            return weight.copies
    if weight.kind not in (Kind.LINEAR, Kind.EMBEDDING, Kind.HEAD):
        return 0
    layers = keys.peft_layers_to_transform
    chosen = 0
    for number, name in zip(weight.layers or (None,), weight.names(), strict=True):
        module = name.rpartition(".")[0]
        wanted = _is_target(module, weight.kind, config) and not _named(module, keys.lora_exclude_modules)
        chosen += wanted and (layers is None or number in layers)
    return chosen


def _is_target(module: str, kind: Kind, config: Config) -> bool:
    keys = config.adapter
    named = keys.lora_target_modules
    if kind is Kind.LINEAR and (keys.lora_target_linear or named == "all-linear"):
        return True
    if named is None:
        return kind is Kind.LINEAR and not keys.lora_target_parameters
    return _named(module, named)


def _named(module: str, named: str | Sequence[str] | None) -> bool:
    if isinstance(named, str):
        try:
            return re.fullmatch(named, module) is not None
        except re.error:
            return False
    return _ends(module, named or ())


def _ends(name: str, wanted: Iterable[str]) -> bool:
    return any(name == one or name.endswith(f".{one}") for one in wanted)


def _rank(weight: Weight, config: Config) -> int:
    for pattern, rank in (config.adapter.lora_rank_pattern or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", next(weight.names()).rpartition(".")[0]):
            return rank
    return config.adapter.lora_r or DEFAULT_RANK
