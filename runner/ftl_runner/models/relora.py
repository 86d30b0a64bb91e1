"""ReLoRA: add the adapter to the base now and then, and start a new one (arXiv:2307.05695).

A sum of adapters of small rank is a change of large rank. The adapters that were added are kept, so that the base of
any moment can be made again from the released one: a checkpoint holds them in place of the whole base.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_runner.models.base_files import find_base_files
from ftl_runner.models.errors import ModelError
from ftl_runner.models.layers import ADAPTER, full_weight, is_linear, lora_layers, set_weight, weight_of
from ftl_runner.models.plain_lora import Change, Weights, adapter_weights, changes_of

if TYPE_CHECKING:
    import torch

    from ftl_config import Config
    from ftl_runner.models.base_files import BaseFiles

FOLDER = "relora"


class MergedAdapters:
    """The adapters in the base of a model.

    A float32 base is added to in place. One of lower precision, or a quantized one, is made anew each time from its
    full weights and the sum of all adapters: what rounding took from one is not lost to the next.

    Raises:
        ModelError: the adapter is on something other than linear layers with weights of their own.
    """

    def __init__(self, model: Any, config: Config) -> None:
        self._model, self._config = model, config
        self._layers = dict(lora_layers(model))
        self._files: BaseFiles | None = None
        _check_layers(self._layers, model)

    @property
    def count(self) -> int:
        """How many adapters are in the base."""
        return len(changes_of(self._model))

    def merge(self) -> None:
        """Add the adapter to the base and start it anew, at random but the same on every rank and in every attempt."""
        import torch

        self._add([adapter_weights(self._model)])
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        start = self._model.peft_config[ADAPTER].init_lora_weights
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self._config.training.seed + self.count)
            for layer in self._layers.values():
                layer.reset_lora_parameters(ADAPTER, start)

    def write(self, folder: Path) -> None:
        """Write the adapters that were added, to a checkpoint's folder."""
        from safetensors.torch import save_file

        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        for number, change in enumerate(changes_of(self._model), start=1):
            save_file(change.weights, _file(folder, number), metadata={"format": "pt"})

    def read(self, folder: Path) -> None:
        """Add those adapters of a checkpoint that are not in the base yet."""
        from safetensors.torch import load_file

        found: list[Weights] = []
        while (file := _file(folder, self.count + len(found) + 1)).is_file():
            found.append(load_file(file))
        if found:
            self._add(found)

    def _add(self, adapters: list[Weights]) -> None:
        import torch

        changes_of(self._model).extend(Change(weights, 1) for weights in adapters)
        with torch.no_grad():
            for name, layer in self._layers.items():
                set_weight(layer, self._weight_with(adapters, name, layer))

    def _weight_with(self, adapters: list[Weights], name: str, layer: Any) -> torch.Tensor:
        import torch

        base = layer.get_base_layer().weight
        device = torch.device("cpu") if self._config.adapter.relora_cpu_offload else base.device
        if base.dtype == torch.float32:
            weight = weight_of(layer)
        else:
            if self._files is None:
                self._files = find_base_files(self._config)
            weight = full_weight(self._files, name, layer, self._model)
            adapters = [change.weights for change in changes_of(self._model)]
        weight = weight.to(device)
        for weights in adapters:
            a, b = (weights[f"base_model.model.{name}.lora_{part}.weight"].to(device).float() for part in "AB")
            weight = weight + layer.scaling[ADAPTER] * (b @ a)
        return weight.to(base.device)


def _file(folder: Path, number: int) -> Path:
    return folder / FOLDER / f"adapter-{number}.safetensors"


def _check_layers(layers: dict[str, Any], model: Any) -> None:
    plain = model.base_model.model
    head, embedding = plain.get_output_embeddings(), plain.get_input_embeddings()
    tied = head is not None and head.weight is embedding.weight
    for name, layer in layers.items():
        if not is_linear(layer):
            raise ModelError(f"relora: {name} is not a linear layer", "name others in lora_target_modules", 2)
        if tied and layer.get_base_layer().weight is embedding.weight:
            hint = "leave it out of lora_target_modules, or name it in lora_modules_to_save"
            raise ModelError(f"relora: {name} shares its weights with the embedding", hint, 2)
