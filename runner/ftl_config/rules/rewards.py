"""Reward models, process reward models, and reinforcement learning with rewards."""

from __future__ import annotations

from collections.abc import Iterator

from ftl_config.rules.registry import Finding, Rule, error, warning
from ftl_config.schema.config import Config
from ftl_config.schema.preference import TrlConfig

COMPLETENESS = False

_HEADS = {
    "reward_model": ("ForSequenceClassification", 1),
    "process_reward_model": ("ForTokenClassification", 2),
}
"""Key to the end of the names of model classes that have its head, and how many numbers the head gives."""


def one_kind_of_reward(config: Config) -> Iterator[Finding]:
    """One run trains one thing."""
    preference = config.preference
    if preference.reward_model and preference.process_reward_model:
        yield error("cannot be combined with process_reward_model", "reward_model", "process_reward_model")
    if preference.rl and (key := _method(config)):
        yield error(f"cannot be combined with rl: {preference.rl}", key, "rl", hint="train one, then the other")


def head_has_its_size(config: Config) -> Iterator[Finding]:
    """A reward is one number; a step is right or wrong."""
    labels, key = config.model.num_labels, _method(config)
    if labels is None:
        return
    if key is None:
        if labels != 1:
            yield warning("has no effect without reward_model or process_reward_model", "num_labels")
    elif labels != _HEADS[key][1]:
        yield error(f"has to be {_HEADS[key][1]} with {key}: true", "num_labels", key, hint="or leave it out")


def class_has_the_head(config: Config) -> Iterator[Finding]:
    """A class that writes text has no head to train."""
    name, key = config.model.model_type, _method(config)
    if name and key and not name.endswith(_HEADS[key][0]):
        hint = f"leave it out, or model_type: AutoModel{_HEADS[key][0]}"
        yield error(f"{name} has no head for {key}: true", "model_type", key, hint=hint)


def centering_is_for_pairs(config: Config) -> Iterator[Finding]:
    """Only rewards of pairs are pulled towards zero."""
    preference = config.preference
    if preference.center_rewards_coefficient is not None and not preference.reward_model:
        yield warning("has no effect without reward_model: true", "center_rewards_coefficient", "reward_model")


def judges_write_nothing(config: Config) -> Iterator[Finding]:
    """A model with a head has no answers to show."""
    key = _method(config)
    if key and config.logging.generate_samples:
        yield warning(f"has no effect with {key}: true", "generate_samples", key)


def pairs_have_no_one_length(config: Config) -> Iterator[Finding]:
    """Rows of pairs have two lengths, and prompts have none yet."""
    preference = config.preference
    method = "reward_model: true" if preference.reward_model else f"rl: {preference.rl}" if preference.rl else None
    if method and config.data.group_by_length:
        yield error(f"cannot be combined with {method}", "group_by_length", method.split(":")[0])


def rewards_are_named(config: Config) -> Iterator[Finding]:
    """Without somebody who judges there is nothing to learn."""
    method, trl = _online(config), config.preference.trl
    functions = (trl.reward_funcs if trl else None) or ()
    if method and not functions:
        hint = "name functions by their path: reward_funcs: [my_rewards.short_answers]"
        yield error(f"{method} needs trl.reward_funcs", "trl" if trl else "rl", "rl", hint=hint)
    for index, name in enumerate(functions):
        if method and "/" not in name and "." not in name:
            fix = f"{name}.py holds functions: name one of them, as {name}.score" if name.isidentifier() else None
            yield error(f"{name} is no path of a function", ("trl", "reward_funcs", index), hint=fix)
    if method and trl and trl.reward_weights and len(trl.reward_weights) != len(functions):
        message = f"has {len(trl.reward_weights)} entries and reward_funcs has {len(functions)}"
        yield error(message, ("trl", "reward_weights"))


_NOT_YET = (
    "reward_num_workers",
    "vllm_sync_interval",
    "vllm_lora_sync",
    "use_data_producer",
    "async_prefetch",
    "prefetch_depth",
    "streaming_partial_batch",
    "streaming_min_groups",
    "replay_buffer_size",
    "replay_recompute_logps",
    "reroll_start_fraction",
    "reroll_max_groups",
    "skip_zero_advantage_batches",
)
"""Keys under trl of Axolotl's own asynchronous trainer."""


def online_keys_are_supported(config: Config) -> Iterator[Finding]:
    """What TRL's trainer has no counterpart of is refused where it asks for something."""
    trl = config.preference.trl
    for name in _NOT_YET if trl else ():
        field = TrlConfig.model_fields[name]
        if getattr(trl, name) not in (None, False, field.default):
            yield error("not yet supported: asynchronous reinforcement learning", ("trl", name))
    if trl and trl.use_liger_loss:
        message = "has no effect here (memory only: log-probabilities are worked out in pieces anyway)"
        yield warning(message, ("trl", "use_liger_loss"))


def answers_are_sampled(config: Config) -> Iterator[Finding]:
    """Answers to one prompt have to differ."""
    trl = config.preference.trl
    if _online(config) and trl and trl.temperature == 0:
        yield error("has to be greater than 0: all answers to a prompt would be the same", ("trl", "temperature"))


def reference_can_move(config: Config) -> Iterator[Finding]:
    """Only a model of its own can be moved."""
    preference, trl = config.preference, config.preference.trl
    if not (_online(config) and trl and trl.sync_ref_model):
        return
    if config.adapter.adapter is not None:
        message = "cannot be combined with an adapter: the reference is the base model"
        yield error(message, ("trl", "sync_ref_model"), "adapter")
    elif not (trl.beta or preference.beta or preference.rl_beta):
        yield error("needs beta: without it there is no reference model", ("trl", "sync_ref_model"))


def online_needs_a_writer(config: Config) -> Iterator[Finding]:
    """What TRL's trainer of GRPO refuses, said before the model is loaded."""
    method = _online(config)
    if method and config.kernels.liger_fused_linear_cross_entropy:
        message = f"cannot be combined with {method}: log-probabilities are worked out in pieces anyway"
        yield error(message, "liger_fused_linear_cross_entropy", "rl")
    targets = config.adapter.lora_target_modules
    if method and isinstance(targets, tuple) and "lm_head" in targets:
        yield error(f"lm_head cannot have an adapter with {method}", "lora_target_modules", "rl")


def server_is_used(config: Config) -> Iterator[Finding]:
    """Settings of vLLM say how to reach it; the server itself is started by hand."""
    preference = config.preference
    if preference.vllm is None or not _online(config):
        return
    if preference.trl is None or not preference.trl.use_vllm:
        yield warning("has no effect without trl: {use_vllm: true}", "vllm", "trl")
        return
    used = {"host", "port", "gpu_memory_utilization", "tensor_parallel_size", "max_model_len"}
    for name in sorted(preference.vllm.model_fields_set - used):
        message = "has no effect here: it is a setting of the server, which is started with `trl vllm-serve`"
        yield warning(message, ("vllm", name))


def _online(config: Config) -> str | None:
    return f"rl: {config.preference.rl}" if config.preference.rl in ("grpo", "gdpo") else None


def _method(config: Config) -> str | None:
    return next((key for key in _HEADS if getattr(config.preference, key)), None)


RULES: list[Rule] = [
    one_kind_of_reward,
    head_has_its_size,
    class_has_the_head,
    centering_is_for_pairs,
    judges_write_nothing,
    pairs_have_no_one_length,
    rewards_are_named,
    online_keys_are_supported,
    answers_are_sampled,
    reference_can_move,
    online_needs_a_writer,
    server_is_used,
]
