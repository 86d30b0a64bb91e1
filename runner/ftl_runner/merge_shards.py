"""Merge an adapter shard by shard: memory is bounded by the largest shard of the base model, not by the model.

The model exists on the meta device, without weights. Shard after shard is read; a module that has an adapter gets its
weights, PEFT merges them (so DoRA, rsLoRA and whatever else PEFT knows is merged by PEFT's own arithmetic), and they
are written and dropped again. All other tensors are copied.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_runner.models.base_files import INDEX_FILE, SINGLE_FILE, BaseFiles, find_base_files
from ftl_runner.models.classes import transformers_class
from ftl_runner.models.errors import ModelError
from ftl_runner.models.heads import default_class
from ftl_runner.models.layers import is_linear, set_weight, weight_of
from ftl_runner.models.loader import load_model_config
from ftl_runner.models.positions import stretch_positions
from ftl_runner.models.relora import FOLDER as RELORA_FOLDER

if TYPE_CHECKING:
    import torch

    from ftl_config import Config
    from ftl_runner.models.layers import Imitation
    from ftl_runner.models.precision import Precision

_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")

Tensors = dict[str, "torch.Tensor"]


class NeedsWholeModel(Exception):
    """Why this model or adapter cannot be merged shard by shard."""


def merge_by_shards(
    config: Config, tokenizer: Any, precision: Precision, adapter: Path, target: Path, rounding: Imitation | None = None
) -> None:
    """Write the merged model to ``target``, in files as large as those of the base.

    ``rounding`` is what the adapted weights of the base go through first.

    Raises:
        NeedsWholeModel: what is written depends on more than one module at a time, or on code.
    """
    import torch
    from peft import PeftModel
    from transformers.trainer_utils import align_special_tokens

    base = _find_base(config)
    with torch.device("meta"):
        model = _empty_model(config)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        raise NeedsWholeModel("the embeddings grew for added tokens")
    _check_adapter(adapter)
    tied = _is_tied(model)
    peft_model = PeftModel.from_pretrained(model, str(adapter), low_cpu_mem_usage=True)
    _load_adapter(peft_model, adapter)
    merger = _Merger(base, peft_model, precision.load_dtype, tied, rounding)
    target.mkdir(parents=True, exist_ok=True)
    total_bytes, places = 0, {}
    for file, tensors in merger.shards():
        _write(tensors, target / file)
        places.update(dict.fromkeys(tensors, file))
        total_bytes += sum(tensor.nbytes for tensor in tensors.values())
        tensors.clear()
        _return_free_memory()
    _write_index(target, places, total_bytes)
    model.config.use_cache = True
    model.config.dtype = precision.load_dtype
    model.config.tie_word_embeddings = merger.still_tied
    stretch_positions(config, model.config)
    if model.can_generate():
        _take_generation_config(model, config)
    align_special_tokens(model, tokenizer)
    model.config.save_pretrained(str(target))
    if model.can_generate():
        model.generation_config.save_pretrained(str(target))


def _take_generation_config(model: Any, config: Config) -> None:
    """How the base generates, which a model made of its configuration does not know."""
    from transformers import GenerationConfig

    keys = config.model
    with contextlib.suppress(OSError):
        model.generation_config = GenerationConfig.from_pretrained(str(keys.base_model), revision=keys.model_revision)


def _find_base(config: Config) -> BaseFiles:
    try:
        return find_base_files(config)
    except ModelError as error:
        raise NeedsWholeModel(error.message) from error


def _empty_model(config: Config) -> Any:
    """The model without weights: with the meta device on, a shape is all that is made."""
    keys = config.model
    if keys.trust_remote_code:
        raise NeedsWholeModel("a model with its own code is saved by that code")
    model_class = transformers_class("model_type", keys.model_type, default_class(config), trust_remote_code=False)
    model_config = load_model_config(config)
    if getattr(model_config, "quantization_config", None) is not None:
        raise NeedsWholeModel("the base model comes quantized")
    make = getattr(model_class, "from_config", None) or model_class._from_config
    return make(model_config)


def _check_adapter(folder: Path) -> None:
    from peft import LoraConfig, PeftConfig

    if (folder / RELORA_FOLDER).is_dir():
        raise NeedsWholeModel("the adapter is of a checkpoint of ReLoRA, whose base has others in it")
    settings = PeftConfig.from_pretrained(str(folder))
    if not isinstance(settings, LoraConfig):
        raise NeedsWholeModel("it is not a LoRA adapter")
    if settings.bias != "none":
        raise NeedsWholeModel("the adapter holds biases of the base")
    if settings.layer_replication:
        raise NeedsWholeModel("the adapter stacks layers of the base again")
    start = settings.init_lora_weights
    if isinstance(start, str) and start.startswith(_CHANGES_THE_BASE):
        raise NeedsWholeModel(f"the adapter started from {start}, which takes the base apart")


def _load_adapter(peft_model: Any, folder: Path) -> None:
    """Give the adapter its weights: PEFT leaves them on the device of the base, where there is no data."""
    import torch
    from peft.utils import load_peft_weights, set_peft_model_state_dict

    for _, module in _adapted_modules(peft_model.base_model.model):
        of_base = {id(parameter) for parameter in _base_of(module).parameters()}
        for name, parameter in list(module.named_parameters()):
            if parameter.is_meta and id(parameter) not in of_base:
                _set(module, name, torch.empty_like(parameter, device="cpu"))
    set_peft_model_state_dict(peft_model, load_peft_weights(str(folder), device="cpu"))


def _is_tied(model: Any) -> bool:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and bool(model.config.get_text_config().tie_word_embeddings) and head is not embedding


class _Merger:
    """Goes through the base's files and yields what the merged model has in their place."""

    def __init__(
        self, base: BaseFiles, peft_model: Any, dtype: torch.dtype, tied: bool, rounding: Imitation | None
    ) -> None:
        self._base = base
        self._rounding = rounding
        self._model = peft_model.base_model.model
        self._dtype = dtype
        self._float32 = list(getattr(self._model, "_keep_in_fp32_modules", None) or [])
        self._float32 += list(getattr(self._model, "_keep_in_fp32_modules_strict", None) or [])
        self._adapted = dict(_adapted_modules(self._model))
        names: tuple[str | None, str | None] = _embedding_names(self._model) if tied else (None, None)
        self._head, self._embedding = names
        self._names = {name: self._on_disk(name, module) for name, module in self._adapted.items()}
        self.still_tied = tied

    def _on_disk(self, name: str, module: Any) -> dict[str, str]:
        """Parameter of an adapted module to the name of its tensor on disk."""
        found = {}
        for parameter, _ in _base_of(module).named_parameters():
            full = f"{name}.{parameter}"
            place = self._place(full)
            if place is not None:
                found[parameter] = place
            elif name != self._head:
                raise NeedsWholeModel(f"the file of the base has no tensor {full}")
        return found

    def _place(self, name: str) -> str | None:
        return self._base.place(name, self._model.base_model_prefix)

    def shards(self) -> Iterator[tuple[str, Tensors]]:
        """File name and tensors, one file at a time."""
        from safetensors import safe_open

        owner = {place: name for name, places in self._names.items() for place in places.values()}
        for file in sorted(set(self._base.files.values())):
            names = [name for name, place in self._base.files.items() if place == file]
            tensors: Tensors = {}
            with safe_open(self._base.folder / file, framework="pt") as opened:
                for name in names:
                    if name not in owner:
                        tensors[name] = self._cast(name, opened.get_tensor(name))
            for module in sorted({owner[name] for name in names if name in owner}):
                places = self._names[module]
                merged = {places[key]: value for key, value in self._merge(module).items()}
                tensors.update((name, value) for name, value in merged.items() if name in names)
            self._add_untied_head(tensors)
            yield file, tensors

    def _cast(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point() or any(part in name.split(".") for part in self._float32):
            return tensor
        return tensor.to(self._dtype)

    def _merge(self, name: str, source: dict[str, str] | None = None) -> Tensors:
        """The merged parameters of one adapted module, whose base is read for it and dropped again."""
        import torch

        module, places = self._adapted[name], source or self._names[name]
        base = _base_of(module)
        for parameter, place in places.items():
            _set(base, parameter, self._cast(place, self._base.read(place)))
        if self._rounding is not None and is_linear(module) and self._rounding.applies(name, self._model):
            set_weight(module, self._rounding.of(weight_of(module)))
        merged = _merged_parameters(module)
        for parameter in places:
            _set(base, parameter, torch.empty(0, device="meta"))
        return {key: value.detach().to(self._dtype).contiguous() for key, value in merged.items()}

    def _add_untied_head(self, tensors: Tensors) -> None:
        """Where embedding and head were one tensor and the adapter makes two of it, write both."""
        import torch

        if self._head is None or not {self._head, self._embedding} & set(self._adapted):
            return
        place = self._place(f"{self._embedding}.weight")
        if place is None or place not in tensors:
            return
        head = self._cast(place, self._base.read(place))
        if self._head in self._adapted:
            head = self._merge(self._head, {"weight": place})["weight"]
        if not torch.equal(head, tensors[place]):
            tensors[f"{self._head}.weight"] = head
            self.still_tied = False


def _adapted_modules(model: Any) -> Iterator[tuple[str, Any]]:
    """The outermost modules that PEFT wrapped, by their name in the plain model."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    outer: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{each}.") for each in outer)
        if not inside and isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            outer.append(name)
            yield name, module


def _embedding_names(model: Any) -> tuple[str, str]:
    """Names of the output head and of the input embedding."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    return names[id(head)], names[id(embedding)]


def _base_of(module: Any) -> Any:
    from peft.utils.other import AuxiliaryTrainingWrapper

    return module.original_module if isinstance(module, AuxiliaryTrainingWrapper) else module.get_base_layer()


def _merged_parameters(module: Any) -> Tensors:
    """Merge with PEFT; of ``modules_to_save`` the trained copy is the merged module."""
    if hasattr(module, "unload_and_optionally_merge_module"):
        plain = module.unload_and_optionally_merge_module(merge=True, safe_merge=True, adapter_names=None)
    else:
        module.merge(safe_merge=True)
        plain = module.get_base_layer()
    return {name: parameter.data for name, parameter in plain.named_parameters()}


def _set(module: Any, name: str, value: torch.Tensor) -> None:
    """Replace a parameter by its dotted name."""
    import torch

    path, _, last = name.rpartition(".")
    owner = module.get_submodule(path)
    owner._parameters[last] = torch.nn.Parameter(value, requires_grad=False)


def _write(tensors: Tensors, path: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, path, metadata={"format": "pt"})


def _return_free_memory() -> None:
    """glibc keeps what is freed in blocks under 32 MiB, and a heap in pieces grows with every shard; other C libraries
    give it back by themselves."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _write_index(target: Path, places: dict[str, str], total_bytes: int) -> None:
    if set(places.values()) == {SINGLE_FILE}:
        return
    index = {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(places.items()))}
    (target / INDEX_FILE).write_text(json.dumps(index, indent=2), encoding="utf-8")
