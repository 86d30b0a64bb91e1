"""TRL's trainer of GRPO with our optimizer, schedule and count of tokens; a run goes on exactly where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import trl
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftl_runner.checkpoints.manifest import FOLDER_PREFIX
from ftl_runner.context import RunContext
from ftl_runner.trainer.configured import OptimizerFromConfig
from ftl_runner.trainer.counted_tokens import CountedTokens
from ftl_runner.trainer.reference_model import PlainCheckpoints


class GrpoTrainer(OptimizerFromConfig, CountedTokens, PlainCheckpoints, trl.GRPOTrainer):  # type: ignore[misc]
    """Logs ``reward``, its parts by function, the lengths of answers, entropy and clipping, as TRL does.

    TRL counts micro-batches in ``_step`` and keeps the answers of a generation in ``_buffered_inputs``; both begin
    anew when a run is resumed, and the prompts of a later epoch in the order of the first. All three are put right
    here, through the only names there are.
    """

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss; the tokens of prompts and answers are counted."""
        if self.model.training:
            answers = inputs["completion_mask"].sum()
            trained = self.accelerator.reduce(answers, "sum")
            self.token_count.add(inputs["prompt_mask"].sum() + answers, trained)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    @property
    def is_between_generations(self) -> bool:
        """Whether the next micro-batch is answered anew, so that no answers are waiting."""
        done: int = self._step
        return done % int(self.args.steps_per_generation * self.num_iterations) == 0

    def save_rollouts(self, path: Path) -> None:
        """Keep the answers that are still to be trained on."""
        if not self.is_between_generations:
            torch.save(self._buffered_inputs, path)

    def restore_rollouts(self, path: Path, step: int) -> bool:
        """Go on after optimizer step ``step``; False where waiting answers were not kept, and are made anew."""
        self._step = step * self.args.gradient_accumulation_steps
        if self.is_between_generations:
            return True
        if path.is_file():
            self._buffered_inputs = torch.load(path, map_location=self.args.device, weights_only=True)
        return path.is_file()

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return _OrderOfEpoch(super()._get_train_sampler(dataset), self.args.seed, lambda: self.state.epoch or 0.0)


class _OrderOfEpoch(Sampler):  # type: ignore[misc]
    """TRL's sampler with an order that is the seed's and the epoch's alone."""

    def __init__(self, inner: Any, seed: int, epoch: Callable[[], float]) -> None:
        self._inner, self._seed, self._epoch = inner, seed, epoch

    def __iter__(self) -> Iterator[int]:
        if self._inner.shuffle:
            self._inner.generator.manual_seed(self._seed + int(self._epoch() + 1e-6))
        yield from self._inner

    def __len__(self) -> int:
        return len(self._inner)


class KeepRollouts(TrainerCallback):  # type: ignore[misc]
    """Writes answers that are waiting into each checkpoint, before it is committed, and takes them up where a run goes
    on, after its checkpoint was fetched."""

    def __init__(self, context: RunContext, trainer: GrpoTrainer) -> None:
        self._context, self._trainer = context, trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._context.resume_from is None:
            return
        file = self._file(state.global_step)
        if not self._trainer.restore_rollouts(file, state.global_step):
            self._context.warn(f"{file.parent.name} does not hold the answers that were waiting: they are made anew")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._trainer.save_rollouts(self._file(state.global_step))

    def _file(self, step: int) -> Path:
        """Where a checkpoint keeps the answers that wait on this rank."""
        return self._context.output_dir / f"{FOLDER_PREFIX}{step}" / f"rollouts-{self._context.ranks.rank:05d}.pt"
