"""Models with a head that judges in place of one that writes: reward models and process reward models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftl_runner.models.precision import choose_precision

if TYPE_CHECKING:
    from ftl_config import Config

_CAUSAL = "AutoModelForCausalLM"
HEAD_MODULE = "score"
"""What transformers calls the head of models for sequence and token classification."""


@dataclass(frozen=True)
class Head:
    """A head of transformers: the Auto class that has it, how many numbers it gives, and PEFT's word for the task."""

    auto_class: str
    num_labels: int
    peft_task: str


REWARD = Head("AutoModelForSequenceClassification", 1, "SEQ_CLS")
"""One number for a whole sequence, at its last token."""
STEPS = Head("AutoModelForTokenClassification", 2, "TOKEN_CLS")
"""Two logits at every token: wrong and right."""


def head_of(config: Config) -> Head | None:
    """The head of the method's model; None where the model writes text."""
    if config.preference.process_reward_model:
        return STEPS
    return REWARD if config.preference.reward_model else None


def default_class(config: Config) -> str:
    """The Auto class of transformers that loads the model where ``model_type`` names none."""
    head = head_of(config)
    return _CAUSAL if head is None else head.auto_class


def peft_task(config: Config) -> str:
    """PEFT's word for the task; with a head it trains and saves the head with the adapter."""
    head = head_of(config)
    return "CAUSAL_LM" if head is None else head.peft_task


def set_head(model_config: Any, config: Config) -> None:
    """Size the head in a model's configuration, before the model is made."""
    head = head_of(config)
    if head is None:
        return
    model_config.num_labels = head.num_labels
    # Without a word in its configuration transformers drops a tenth of what enters a token head.
    if getattr(model_config, "classifier_dropout", None) is None:
        model_config.classifier_dropout = 0.0


def set_padding(model: Any, tokenizer: Any, config: Config) -> None:
    """Tell a model with a head what padding is: a sequence is judged at its last token that is none."""
    if head_of(config) is not None:
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id


def keep_head_in_full(model: Any, config: Config) -> None:
    """Train the head beside an adapter in float32 under mixed precision, as PEFT does with the adapter.

    A step of 1e-4 on weights of 0.02 is lost in bfloat16, whose next number is 1.2e-4 away.
    """
    precision = choose_precision(config)
    if head_of(config) is not None and (precision.bf16 or precision.fp16):
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and f".{HEAD_MODULE}." in name:
                parameter.data = parameter.data.float()
