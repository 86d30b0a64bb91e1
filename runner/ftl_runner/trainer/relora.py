"""ReLoRA in the Trainer: at each restart of the schedule the adapter goes into the base and Adam forgets its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftl_runner.checkpoints.errors import ResumeError
from ftl_runner.checkpoints.manifest import FOLDER_PREFIX
from ftl_runner.context import RunContext
from ftl_runner.models.relora import MergedAdapters

if TYPE_CHECKING:
    from collections.abc import Iterable

USUAL_RATIO = {"magnitude": 0.9, "random": 0.9, "reset": 0.999}
"""Share of the optimizer's state that is zeroed where ``relora_prune_ratio`` is not set, as in Axolotl."""


class ReloraRestarts(TrainerCallback):  # type: ignore[misc]
    """Restart before the first step of each tooth of the schedule but the first.

    A checkpoint at the end of a tooth is one from before the restart, which comes after resuming. Goes before the
    callback that commits checkpoints, whose files it adds to.
    """

    def __init__(self, context: RunContext) -> None:
        every = context.config.training.jagged_restart_steps
        assert every is not None
        self._context, self._every = context, every
        self._adapters: MergedAdapters | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        self._adapters = MergedAdapters(model, self._context.config)
        if state.global_step == 0:
            return
        folder = self._context.output_dir / f"{FOLDER_PREFIX}{state.global_step}"
        expected = self._adapters.count + (state.global_step - 1) // self._every
        self._adapters.read(folder)
        if self._adapters.count != expected:
            raise ResumeError(
                f"{folder.name} holds {self._adapters.count} merged adapters, not {expected}",
                "relora or jagged_restart_steps was another when it was saved: start anew",
                exit_code=2,
            )

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        if state.global_step == 0 or state.global_step % self._every:
            return
        assert self._adapters is not None
        self._adapters.merge()
        keys = self._context.config.adapter
        ratio = USUAL_RATIO[keys.relora_prune_method] if keys.relora_prune_ratio is None else keys.relora_prune_ratio
        adapter = [parameter for name, parameter in model.named_parameters() if "lora_" in name]
        prune_state(optimizer, adapter, keys.relora_prune_method, ratio, seed=state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        assert self._adapters is not None
        if self._context.ranks.is_main:
            self._adapters.write(self._context.output_dir / f"{FOLDER_PREFIX}{state.global_step}")


@torch.no_grad()  # type: ignore[untyped-decorator]
def prune_state(optimizer: Any, parameters: Iterable[Any], method: str, ratio: float, seed: int) -> None:
    """Zero a share of what the optimizer remembers of some parameters.

    Args:
        optimizer: one whose memory is tensors of the parameter's shape, in floating point or bitsandbytes' 8 bits.
        parameters: those to forget.
        method: ``magnitude`` zeroes the smallest, ``random`` and ``reset`` any.
        ratio: the share.
        seed: of the choice, the same on every rank.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        state = optimizer.state.get(parameter, {})
        for name, value in state.items():
            if not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
                continue
            if value.is_floating_point():
                value.mul_(_kept(value, method, ratio, generator))
            elif f"qmap{name.removeprefix('state')}" in state:
                _prune_8bit(state, name, method, ratio, generator)


def _kept(value: torch.Tensor, method: str, ratio: float, generator: torch.Generator) -> torch.Tensor:
    if method != "magnitude":
        return (torch.rand(value.shape, generator=generator) >= ratio).to(value.device)
    sizes = value.abs().float().flatten()
    zeroed = int(ratio * sizes.numel())
    if zeroed == 0:
        return torch.ones_like(value, dtype=torch.bool)
    return value.abs().float() > sizes.kthvalue(zeroed).values


def _prune_8bit(state: dict[str, Any], name: str, method: str, ratio: float, generator: torch.Generator) -> None:
    """bitsandbytes holds values as indices into a table, scaled block by block."""
    from bitsandbytes import functional

    number = name.removeprefix("state")
    code, absmax = state[f"qmap{number}"], state[f"absmax{number}"]
    value = functional.dequantize_blockwise(state[name], absmax=absmax, code=code, blocksize=256)
    value.mul_(_kept(value, method, ratio, generator))
    quantized, scales = functional.quantize_blockwise(value, code=code, blocksize=256)
    state[name].copy_(quantized)
    absmax.copy_(scales.absmax)
