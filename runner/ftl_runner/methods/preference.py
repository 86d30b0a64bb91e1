"""What preference methods share: beta, the reference model, TRL's arguments whose defaults are not ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftl_runner.context import RunContext
from ftl_runner.methods.frame import Setup, load_model
from ftl_runner.models.errors import ModelError
from ftl_runner.models.loader import load_base_model

if TYPE_CHECKING:
    from ftl_config import Config

DEFAULT_BETA = 0.1
"""TRL's, and so Axolotl's."""


def trl_options(config: Config) -> dict[str, Any]:
    """Arguments of TRL's trainers with a reference model."""
    return {
        "beta": config.preference.beta_or(DEFAULT_BETA),
        "precompute_ref_log_probs": bool(config.preference.precompute_ref_log_probs),
        "max_length": None,  # rows are cut when they are prepared
        "pad_to_multiple_of": config.data.pad_to_multiple_of,
        # Dropout would be noise in the log ratios, twice: policy and reference draw different masks.
        "disable_dropout": True,
    }


def load_scored_model(context: RunContext, setup: Setup) -> Any:
    """The model to train, with its adapter if it has one, as log-probabilities can be made of it.

    Raises:
        ModelError: they cannot.
    """
    keep_head_fused(setup.arguments)
    base, model = load_model(context, setup)
    check_head(context.config, base)
    return model


def keep_head_fused(arguments: Any) -> None:
    """Log-probabilities come from a head that makes no logits; Liger's fused loss would take its place."""
    if arguments.liger_kernel_config:
        off = {"cross_entropy": False, "fused_linear_cross_entropy": False}
        arguments.liger_kernel_config = {**arguments.liger_kernel_config, **off}


def check_head(config: Config, base: Any) -> None:
    """Log-probabilities are made from what the body of a model gives to its head.

    Raises:
        ModelError: a model whose class does not keep the two apart.
    """
    if base.base_model is base:
        raise ModelError(
            f"rl: {config.preference.rl} cannot be used with models of type {base.config.model_type}: "
            f"{type(base).__name__} does not keep its body apart from its head",
            "supervised fine-tuning works with it",
        )


def load_reference(context: RunContext, setup: Setup) -> Any | None:
    """A frozen base model for a full fine-tune, the same in every attempt.

    None with an adapter, which is switched off for the reference, and where the model itself is asked before the
    first step (``precompute_ref_log_probs``; under FSDP it is not ready then).
    """
    from transformers import set_seed

    config = context.config
    sharded = config.distributed.fsdp_key is not None
    if config.adapter.adapter is not None or (config.preference.precompute_ref_log_probs and not sharded):
        return None
    context.events.phase("model", "loading the reference model")
    with context.clock.measure("model"):
        set_seed(config.training.seed)  # rows for added tokens are random, and the same as the trained model's
        return load_base_model(config, setup.tokenizer, setup.precision).eval().requires_grad_(False)


def adapter_starts_at_zero(config: Config) -> bool:
    """Whether the model with its new adapter is the base model."""
    keys = config.adapter
    return keys.lora_model_dir is None and keys.peft_init_lora_weights in (None, True, "gaussian")
