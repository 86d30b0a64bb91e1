"""Preference tuning and reinforcement learning."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

from ftl_config.rules.registry import Finding, Rule, error, warning
from ftl_config.schema.config import Config

COMPLETENESS = False


def preference_data_is_not_packed(config: Config) -> Iterator[Finding]:
    """Pairs do not fit into packed rows."""
    method = _method(config)
    for key in ("sample_packing", "eval_sample_packing"):
        if method and getattr(config.data, key):
            yield error(f"cannot be combined with {method}", key, method.split(":")[0])


def preference_data_is_not_streamed(config: Config) -> Iterator[Finding]:
    """Pairs are prepared as a whole."""
    method = _method(config)
    for key in ("streaming", "pretraining_dataset"):
        if method and getattr(config.data, key):
            yield error(f"cannot be combined with {method}", key, method.split(":")[0])


def preference_trains_on_answers(config: Config) -> Iterator[Finding]:
    """What of a conversation is trained is no question there: prompts are given, answers are compared."""
    method = _method(config)
    if method and config.data.train_on_inputs:
        yield warning(f"has no effect with {method}", "train_on_inputs", method.split(":")[0])
    for name in ("datasets", "test_datasets"):
        for index, entry in enumerate(getattr(config.data, name) or ()):
            for key in ("roles_to_train", "train_on_eos", "train_on_eot", "message_field_training"):
                if method and getattr(entry, key) is not None:
                    yield warning(f"has no effect with {method}", (name, index, key), method.split(":")[0])


def _method(config: Config) -> str | None:
    """``rl: dpo``, ``reward_model: true``, ...; None for supervised fine-tuning."""
    preference = config.preference
    for key in ("process_reward_model", "reward_model"):
        if getattr(preference, key):
            return f"{key}: true"
    return f"rl: {preference.rl}" if preference.rl else None


def kto_keeps_its_columns(config: Config) -> Iterator[Finding]:
    """KTO's trainer reads columns that the model does not take."""
    if config.preference.rl == "kto" and config.data.remove_unused_columns is not False:
        yield error("has to be false with rl: kto", "remove_unused_columns", "rl")


def dpo_losses_fit(config: Config) -> Iterator[Finding]:
    """A weight for each loss, and for DPO only."""
    preference = config.preference
    losses, weights = preference.dpo_loss_type, preference.dpo_loss_weights
    if preference.rl == "ipo":
        yield warning("is the old spelling of rl: dpo with dpo_loss_type: [ipo]", "rl")
    if preference.rl == "dpo":
        if weights is not None and losses is None:
            yield error("needs dpo_loss_type", "dpo_loss_weights", "dpo_loss_type")
        elif weights is not None and losses is not None and len(weights) != len(losses):
            message = f"has {len(weights)} entries and dpo_loss_type has {len(losses)}"
            yield error(message, "dpo_loss_weights", "dpo_loss_type")
        return
    for key, value in (("dpo_loss_type", losses), ("dpo_loss_weights", weights)):
        if value is not None:
            yield error("is for rl: dpo only", key, "rl")


def simpo_warms_up_in_steps(config: Config) -> Iterator[Finding]:
    """SimPO's trainer knows steps only."""
    if config.preference.rl == "simpo" and config.training.warmup_ratio:
        yield error("cannot be combined with rl: simpo", "warmup_ratio", "rl", hint="use warmup_steps")


def grpo_groups_fill_the_batch(config: Config) -> Iterator[Finding]:
    """Each prompt is answered num_generations times within one generation batch."""
    trl = config.preference.trl
    if config.preference.rl != "grpo" or trl is None or trl.num_generations is None:
        return
    num = trl.num_generations
    path = ("trl", "num_generations")
    if num < 2:
        yield error("has to be at least 2: answers are compared with each other", path, "rl")
        return
    micro = config.training.micro_batch_size
    batch = trl.generation_batch_size or micro * config.training.gradient_accumulation_steps
    if batch % num:
        steps = num // gcd(num, micro)
        hint = None if trl.generation_batch_size else f"gradient_accumulation_steps: {steps} is the smallest that fits"
        yield error(f"{batch} answers at a time cannot be divided into groups of {num}", path, hint=hint)


def gdpo_normalizes_first(config: Config) -> Iterator[Finding]:
    """Summing first is GRPO."""
    trl = config.preference.trl
    if config.preference.rl == "gdpo" and trl is not None and trl.multi_objective_aggregation == "sum_then_normalize":
        yield error("is GRPO; GDPO normalizes first", ("trl", "multi_objective_aggregation"), "rl")


def ebft_needs_settings(config: Config) -> Iterator[Finding]:
    """EBFT has no defaults for what it is about."""
    if config.preference.rl == "ebft" and config.preference.ebft is None:
        yield error("ebft needs an ebft: section", "rl", "ebft", hint="ebft: {mode: structured}")


def fsdp2_takes_no_quantized_pairs(config: Config) -> Iterator[Finding]:
    """The reference model cannot share a quantized, sharded base."""
    if config.distributed.fsdp_version != 2 or config.preference.rl not in ("dpo", "kto", "orpo", "ipo"):
        return
    for key in ("load_in_4bit", "load_in_8bit"):
        if getattr(config.adapter, key):
            message = f"cannot be combined with rl: {config.preference.rl} under FSDP2"
            yield error(message, key, "rl", "fsdp_version", hint="use deepspeed")


RULES: list[Rule] = [
    preference_data_is_not_packed,
    preference_data_is_not_streamed,
    preference_trains_on_answers,
    kto_keeps_its_columns,
    dpo_losses_fit,
    simpo_warms_up_in_steps,
    grpo_groups_fill_the_batch,
    gdpo_normalizes_first,
    ebft_needs_settings,
    fsdp2_takes_no_quantized_pairs,
]
