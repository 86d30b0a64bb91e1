"""Losses on preferences: which method reads which key, and which of their values make sense together."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftl_config.rules.registry import Finding, Rule, error, warning
from ftl_config.schema.config import Config
from ftl_config.suggest import did_you_mean
from ftl_config.wordlist import words

COMPLETENESS = False

UNSUPPORTED_RL = {"ebft": "energy-based fine-tuning"}
"""Values of ``rl`` for which the runner has no method."""

COMPARES_ANSWERS = ("dpo", "ipo", "kto", "orpo", "simpo")
"""Values of ``rl`` whose loss is made of log-probabilities of given answers."""

DPO_LOSSES = words(
    """sigmoid hinge ipo exo_pair nca_pair robust bco_pair sppo_hard aot aot_unpaired apo_zero apo_down discopop sft
    sigmoid_norm"""
)
"""Those of TRL 1.16."""
_SMOOTHED = frozenset({"robust", "exo_pair", "aot", "aot_unpaired"})
_SORTED = frozenset({"aot", "aot_unpaired"})

_READ_BY = {
    "rl_beta": (*COMPARES_ANSWERS, "grpo", "gdpo"),
    "dpo_label_smoothing": ("dpo",),
    "dpo_use_weighting": ("dpo", "ipo"),
    "precompute_ref_log_probs": ("dpo", "ipo", "kto"),
    "orpo_alpha": ("orpo",),
    "simpo_gamma": ("simpo",),
    "cpo_alpha": ("simpo",),
    "kto_desirable_weight": ("kto",),
    "kto_undesirable_weight": ("kto",),
}


def rl_is_supported(config: Config) -> Iterator[Finding]:
    """The runner has a method of that name."""
    method = config.preference.rl
    if method in UNSUPPORTED_RL:
        yield error(f"not yet supported: {UNSUPPORTED_RL[method]}", "rl")


def losses_are_known(config: Config) -> Iterator[Finding]:
    """Names of TRL's losses."""
    for index, name in enumerate(config.preference.dpo_loss_type or ()):
        if name not in DPO_LOSSES:
            hint = did_you_mean(name, DPO_LOSSES) or f"known are {', '.join(DPO_LOSSES)}"
            yield error(f"unknown loss {name!r}", ("dpo_loss_type", index), hint=hint)


def losses_have_what_they_need(config: Config) -> Iterator[Finding]:
    """Label smoothing, and weights of pairs, go with some losses only."""
    keys = config.preference
    if keys.rl != "dpo":
        return
    losses = set(keys.dpo_loss_type or ("sigmoid",))
    smoothing = keys.dpo_label_smoothing or 0.0
    if smoothing and not losses & _SMOOTHED:
        hint = f"the losses {', '.join(sorted(_SMOOTHED))} read it"
        yield warning(f"has no effect with dpo_loss_type {', '.join(sorted(losses))}", "dpo_label_smoothing", hint=hint)
    if "robust" in losses and smoothing >= 0.5:
        yield error("has to be below 0.5 for the loss robust", "dpo_label_smoothing", "dpo_loss_type")
    if "exo_pair" in losses and not smoothing:
        hint = "dpo_label_smoothing: 0.001 is what its paper recommends"
        yield error("exo_pair needs dpo_label_smoothing above 0", "dpo_loss_type", "dpo_label_smoothing", hint=hint)
    if keys.dpo_use_weighting and losses & _SORTED:
        yield error("cannot be combined with losses that sort pairs (aot)", "dpo_use_weighting", "dpo_loss_type")


def keys_go_with_their_method(config: Config) -> Iterator[Finding]:
    """A key of another method would be dropped silently."""
    method = config.preference.rl
    for key, methods in _READ_BY.items():
        value = getattr(config.preference, key)
        if value not in (None, False) and method not in methods:
            without = f"rl: {method}" if method else "supervised fine-tuning"
            yield warning(f"has no effect with {without}", key, "rl", hint=f"it is for rl: {', '.join(methods[:5])}")


def beta_is_positive(config: Config) -> Iterator[Finding]:
    """With 0 nothing would be learnt from a comparison (and IPO divides by it)."""
    keys = config.preference
    given = {("rl_beta",): keys.rl_beta, ("beta",): keys.beta, ("trl", "beta"): keys.trl.beta if keys.trl else None}
    for path, value in given.items():
        if keys.rl in COMPARES_ANSWERS and value == 0:
            yield error(f"has to be above 0 with rl: {keys.rl}", path, "rl")


def kto_compares_within_batches(config: Config) -> Iterator[Finding]:
    """KTO estimates how far the model has moved from mismatched answers of the same micro-batch."""
    keys = config.training
    if config.preference.rl != "kto":
        return
    if keys.micro_batch_size < 2:
        hint = "use micro_batch_size: 2 or more, and fewer gradient_accumulation_steps"
        yield error("has to be at least 2 with rl: kto", "micro_batch_size", "rl", hint=hint)
    if keys.eval_batch_size == 1:
        yield error("has to be at least 2 with rl: kto", "eval_batch_size", "rl")
    if config.data.group_by_length:
        yield warning("has no effect with rl: kto, whose batches keep the order of the set", "group_by_length", "rl")


def dropout_is_off(config: Config) -> Iterator[Finding]:
    """It would be noise in log ratios; TRL turns it off, and so do we."""
    if config.preference.rl in COMPARES_ANSWERS and config.adapter.lora_dropout:
        yield warning(f"has no effect with rl: {config.preference.rl}, which trains without dropout", "lora_dropout")


def head_has_no_adapter(config: Config) -> Iterator[Finding]:
    """Log-probabilities are computed from the head's own weight; an adapter on it would not be trained."""
    targets = config.adapter.lora_target_modules
    if config.preference.rl not in COMPARES_ANSWERS or targets is None or config.adapter.adapter is None:
        return
    names = targets if isinstance(targets, tuple) else ()
    pattern = targets if isinstance(targets, str) and targets != "all-linear" else None
    if "lm_head" in names or (pattern and re.fullmatch(pattern, "lm_head")):
        hint = "lora_modules_to_save: [lm_head] trains the head itself"
        yield error(f"lm_head cannot be combined with rl: {config.preference.rl}", "lora_target_modules", hint=hint)


def liger_losses_are_not_used(config: Config) -> Iterator[Finding]:
    """The head that gives log-probabilities without logits takes their place."""
    for key in ("liger_cross_entropy", "liger_fused_linear_cross_entropy"):
        if config.preference.rl in COMPARES_ANSWERS and getattr(config.kernels, key):
            yield warning(f"has no effect with rl: {config.preference.rl}, which makes no logits either", key, "rl")


RULES: list[Rule] = [
    rl_is_supported,
    losses_are_known,
    losses_have_what_they_need,
    keys_go_with_their_method,
    beta_is_positive,
    kto_compares_within_batches,
    dropout_is_off,
    head_has_no_adapter,
    liger_losses_are_not_used,
]
