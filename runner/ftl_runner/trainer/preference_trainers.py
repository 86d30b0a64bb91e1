"""The trainers of methods with a reference model: TRL's, with our optimizers, token counts and reference."""

from __future__ import annotations

from typing import Any

from trl import DPOTrainer, KTOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from ftl_runner.trainer.configured import OptimizerFromConfig
from ftl_runner.trainer.counted_tokens import CountedTokens
from ftl_runner.trainer.reference_model import WithReference


class DpoTrainer(OptimizerFromConfig, CountedTokens, WithReference, DPOTrainer):  # type: ignore[misc]
    """TRL's ``DPOTrainer`` on prepared pairs."""

    reference_columns = ("ref_chosen_logps", "ref_rejected_logps")


class KtoTrainer(OptimizerFromConfig, CountedTokens, WithReference, KTOTrainer):  # type: ignore[misc]
    """TRL's ``KTOTrainer`` on prepared answers; its batches come from a ``MismatchedCollator``."""

    reference_columns = ("ref_logps", "ref_KL_logps")


class MismatchedCollator:
    """TRL's collator, which also gets each prompt with the answer of the row before it.

    TRL writes these pairs into the set, for batches of the training size in the set's order. Made here they are the
    same there, and right for evaluation batches of any size too.

    Args:
        longest: tokens that a prompt with another's answer is cut to; its own fit already.
    """

    def __init__(self, tokenizer: Any, longest: int, multiple: int | None) -> None:
        self._collate = DataCollatorForUnpairedPreference(tokenizer.pad_token_id, longest, multiple)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        answers = [row["completion_ids"] for row in rows]
        others = answers[-1:] + answers[:-1]
        pairs = [{**row, "KL_completion_ids": other} for row, other in zip(rows, others, strict=True)]
        batch: dict[str, Any] = self._collate(pairs)
        return batch
