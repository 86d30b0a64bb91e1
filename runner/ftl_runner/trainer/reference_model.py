"""TRL's trainers that compare with a reference model: on prepared data, with the reference as we mean it, and quiet.

The reference is the model that training started from. With an adapter it is the same model with the adapter switched
off (or, where the adapter starts with weights of its own, with a frozen copy of those); else a model of its own.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch.utils.data import DataLoader
from transformers import Trainer

_COPY = "ref"
"""What TRL calls the frozen copy of an adapter."""


class PlainCheckpoints(Trainer):  # type: ignore[misc]
    """Beside a trainer of TRL: checkpoints hold the trained adapter alone, without a model card."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The trained adapter alone: the copy is made anew at each start, and resuming takes it for the other one."""
        adapters = getattr(self.model, "peft_config", {})
        copy = adapters.pop(_COPY, None)
        try:
            super()._save(output_dir, state_dict)
        finally:
            if copy is not None:
                adapters[_COPY] = copy

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Without the model card that TRL writes beside each checkpoint."""
        Trainer._save_checkpoint(self, model, trial)


class WithReference(PlainCheckpoints, Trainer):  # type: ignore[misc]
    """Beside a trainer of TRL: ``class DpoTrainer(OptimizerFromConfig, CountedTokens, WithReference, DPOTrainer)``.

    Args:
        model: the model to train, with its adapter if it has one.
        adapter_starts_at_zero: a new adapter changes nothing yet, so the reference needs no copy of it.
    """

    _precompute_engine: Any
    reference_columns: ClassVar[tuple[str, ...]]
    """Names of the log-probabilities that ``precompute_ref_log_probs`` adds to each row."""

    def __init__(self, *args: Any, model: Any, adapter_starts_at_zero: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, model=model, **kwargs)
        if adapter_starts_at_zero:
            drop_copied_adapter(model)
        if self.precompute_ref_logps:
            self.ref_model = None

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """Ours is tokenized and cut already."""
        return dataset

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """The set with the reference's log-probabilities, in memory: TRL's file is not seen by other nodes."""
        loader = self.accelerator.prepare(
            DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator, shuffle=False)
        )
        model = self._model_to_precompute_with()
        found: list[tuple[torch.Tensor, ...]] = []
        for batch in loader:
            parts = self.accelerator.gather_for_metrics(self.compute_ref_log_probs(model, batch))
            found.append(tuple(part.float().cpu() for part in parts))
        for column, parts in zip(self.reference_columns, zip(*found, strict=True), strict=True):
            dataset = dataset.add_column(column, torch.cat(parts).numpy())
        return dataset

    def _model_to_precompute_with(self) -> Any:
        """Before training DeepSpeed has not placed the parameters yet; TRL's inference engine does."""
        if self.ref_model is not None or not self.is_deepspeed_enabled:
            return self.ref_model or self.model
        from trl.models.utils import prepare_deepspeed

        if self._precompute_engine is None:
            self._precompute_engine = prepare_deepspeed(self.model, self.accelerator)
        return self._precompute_engine


def drop_copied_adapter(model: Any) -> None:
    """TRL copies the adapter to have its start as the reference; one that changes nothing yet is needed only once."""
    if _COPY in getattr(model, "peft_config", {}):
        model.delete_adapter(_COPY)
