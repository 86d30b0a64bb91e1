"""Sequences longer than the base model was trained on: what its positions allow."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ftl_config.wordlist import words
from ftl_runner.models.errors import ModelError

if TYPE_CHECKING:
    from ftl_config import Config

logger = logging.getLogger(__name__)

FIXED = frozenset(words("gpt2 gptj gpt_neo gpt_bigcode codegen opt openai-gpt biogpt mpt"))
"""Model types that have a table of positions: behind its end is nothing."""


def known_positions(model_config: Any) -> int | None:
    """How many positions a model was made for; None where there is no such number."""
    text = model_config.get_text_config()
    found = getattr(text, "max_seq_len", None) or getattr(text, "max_position_embeddings", None)
    return found if isinstance(found, int) else None


def check_length(config: Config, model_config: Any) -> None:
    """``sequence_len`` ends where the model's table of positions does.

    Raises:
        ModelError: it is longer.
    """
    known, wanted = known_positions(model_config), _longest(config)
    if known is None or wanted <= known or model_config.model_type not in FIXED:
        return
    raise ModelError(
        f"sequence_len {wanted} is more than the {known} positions of this model ({model_config.model_type})",
        f"set sequence_len: {known}, or choose a model with rotary positions",
        exit_code=2,
    )


def stretch_positions(config: Config, model_config: Any) -> None:
    """Let the configuration that is saved say how long the sequences were; as Axolotl does, with a word about it."""
    text, wanted = model_config.get_text_config(), _longest(config)
    known = known_positions(model_config)
    if known is None or wanted <= known or not hasattr(text, "max_position_embeddings"):
        return
    scaling = _scaling(text)
    if scaling == "default":
        logger.warning(
            "sequence_len %d is more than the %d positions that the base model was trained on; what it makes of the "
            "others has to be learned. model_config: {rope_scaling: {type: yarn, factor: %g}} starts nearer to it",
            *(wanted, known, wanted / known),
        )
    if scaling != "dynamic":  # which measures by this number
        text.max_position_embeddings = wanted


def _longest(config: Config) -> int:
    return max(config.data.sequence_len, config.data.eval_sequence_len or 0)


def _scaling(text_config: Any) -> str:
    settings = dict(getattr(text_config, "rope_parameters", None) or {})
    settings = settings.get("full_attention") or settings
    return str(settings.get("rope_type", "default"))
