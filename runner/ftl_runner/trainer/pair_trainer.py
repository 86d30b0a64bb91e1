"""A Trainer on pairs of answers without a reference model, for ORPO and SimPO.

TRL has these methods in experimental trainers that make logits for every position of a batch. Here log-probabilities
come from the head that its DPO trainer has: in chunks, at the positions that are asked for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import add_fused_lm_head, disable_dropout_in_model

from ftl_runner.data.encode import IGNORE_INDEX
from ftl_runner.trainer.configured import OptimizerFromConfig
from ftl_runner.trainer.counted_tokens import CountedTokens


@dataclass(frozen=True)
class PairLogProbs:
    """Log-probabilities of one micro-batch, in nats.

    ``chosen`` and ``rejected`` are means over the tokens of each answer, (pairs,). ``cross_entropy`` is the mean over
    the trained tokens of the better half.
    """

    chosen: Tensor
    rejected: Tensor
    cross_entropy: Tensor


class PairTrainer(OptimizerFromConfig, CountedTokens, Trainer):  # type: ignore[misc]
    """Subclasses say what the loss of a micro-batch is; metrics are means over the steps between two logs.

    Args:
        model: the model to train, with its adapter if it has one; its dropout is switched off.
        learns_prompt: whether the cross-entropy covers prompts too.
    """

    def __init__(
        self, *args: Any, model: Any, processing_class: Any, multiple: int | None, learns_prompt: bool, **kwargs: Any
    ) -> None:
        collate = DataCollatorForPreference(processing_class.pad_token_id, pad_to_multiple_of=multiple)
        super().__init__(*args, model=model, processing_class=processing_class, data_collator=collate, **kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is a mean over pairs: micro-batches are averaged
        self._learns_prompt = learns_prompt
        self._measured: dict[str, list[Tensor]] = defaultdict(list)
        disable_dropout_in_model(model)
        add_fused_lm_head(model.get_base_model() if hasattr(model, "peft_config") else model)

    @abstractmethod
    def pair_loss(self, found: PairLogProbs) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar, and tensors to be measured by their means."""

    def compute_loss(
        self, model: Any, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """One forward pass over both answers of each pair."""
        answers = inputs["completion_mask"].bool()
        asked = self._asked(inputs["attention_mask"].bool(), answers)
        labels = inputs["input_ids"].masked_fill(~asked, IGNORE_INDEX)
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=labels,
            use_cache=False,
            fused_lm_head=True,
        )
        loss, measured = self.pair_loss(_split(outputs.log_probs, answers[:, 1:], asked[:, 1:]))
        if outputs.aux_loss is not None:  # of a mixture of experts whose configuration asks for it
            loss = loss + self.model.config.get_text_config().router_aux_loss_coef * outputs.aux_loss
        for name, value in measured.items():
            self._measured[name].append(value.detach().float().mean())
        return (loss, outputs) if return_outputs else loss

    def _asked(self, tokens: Tensor, answers: Tensor) -> Tensor:
        """Positions whose log-probability is needed; the chosen half of the batch comes first."""
        if not self._learns_prompt:
            return answers
        return torch.cat([tokens[: len(tokens) // 2], answers[len(answers) // 2 :]])

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The loss alone: these batches have no labels, and logits are not made."""
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With what was measured since the last time, over all ranks."""
        if self._measured and ("loss" in logs or "eval_loss" in logs):
            prefix = "" if "loss" in logs else "eval_"
            means = torch.stack([torch.stack(values).mean() for values in self._measured.values()])
            means = self.accelerator.reduce(means, "mean")
            logs |= dict(zip((prefix + name for name in self._measured), means.tolist(), strict=True))
            self._measured.clear()
        super().log(logs, start_time)


def rewards(found: PairLogProbs, beta: float) -> dict[str, Tensor]:
    """What the model itself thinks of its answers, under the names of TRL."""
    chosen, rejected = beta * found.chosen, beta * found.rejected
    return {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/accuracies": (chosen > rejected).float(),
        "rewards/margins": chosen - rejected,
        "logps/chosen": found.chosen,
        "logps/rejected": found.rejected,
        "nll_loss": found.cross_entropy,
    }


def _split(log_probs: Tensor, answers: Tensor, asked: Tensor) -> PairLogProbs:
    """All (2 x pairs, tokens - 1); positions that were not asked for hold 0."""
    means = (log_probs * answers).sum(dim=1) / answers.sum(dim=1)
    chosen, rejected = means.chunk(2)
    half = len(log_probs) // 2
    return PairLogProbs(chosen, rejected, -log_probs[:half].sum() / asked[:half].sum())
