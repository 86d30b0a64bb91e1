"""LISA: train a few layers at a time, drawn anew every so many steps (arXiv:2403.17919)."""

from __future__ import annotations

import random
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftl_config.errors import FtlError

if TYPE_CHECKING:
    from ftl_config import Config


class LisaLayers(TrainerCallback):  # type: ignore[misc]
    """Frees some layers and freezes the others; what is outside of them is trained throughout.

    Which ones depends on the seed and the step alone: ranks agree, and a resumed run goes on with the same.
    """

    def __init__(self, config: Config) -> None:
        keys = config.adapter
        assert keys.lisa_n_layers is not None
        assert keys.lisa_step_interval is not None
        self._num_trained, self._interval, self._path = (
            keys.lisa_n_layers,
            keys.lisa_step_interval,
            keys.lisa_layers_attribute,
        )
        self._seed = config.training.seed
        self._period: int | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        self._period = None
        try:
            num_layers = len(attrgetter(self._path)(model))
        except (AttributeError, TypeError) as error:
            hint = "name the list of layers, such as model.layers or transformer.h"
            raise FtlError(f"lisa_layers_attribute: the model has no list {self._path!r}", hint, exit_code=2) from error
        if self._num_trained > num_layers:
            raise FtlError(f"lisa_n_layers: the model has {num_layers} layers", exit_code=2)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        period = state.global_step // self._interval
        if period == self._period:
            return
        self._period = period
        layers = attrgetter(self._path)(model)
        chosen = random.Random(f"{self._seed} {period}").sample(range(len(layers)), self._num_trained)  # noqa: S311
        for number, layer in enumerate(layers):
            for parameter in layer.parameters():
                parameter.requires_grad_(number in chosen)
