"""Adapters and quantized loading."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftl_config.keys import is_set
from ftl_config.rules.registry import Finding, Rule, error, warning
from ftl_config.schema.config import Config
from ftl_config.suggest import did_you_mean
from ftl_config.unfrozen import parse_unfrozen
from ftl_config.wordlist import words

COMPLETENESS = False

_LORA_KEYS = words(
    """lora_r lora_alpha lora_dropout lora_target_modules lora_target_linear lora_target_parameters
lora_modules_to_save lora_rank_pattern lora_alpha_pattern lora_fan_in_fan_out lora_exclude_modules lora_model_dir
peft_layers_to_transform peft_layers_pattern peft_use_dora peft_use_rslora peft_init_lora_weights
peft_layer_replication peft_trainable_token_indices"""
)
_BNB_4BIT_KEYS = words("bnb_4bit_quant_type bnb_4bit_use_double_quant bnb_4bit_compute_dtype")


def one_bit_width(config: Config) -> Iterator[Finding]:
    """A base is loaded in 4 bits or in 8, not both."""
    if config.adapter.load_in_4bit and config.adapter.load_in_8bit:
        yield error("cannot be combined with load_in_8bit", "load_in_4bit", "load_in_8bit", hint="keep one of the two")


def qlora_needs_4bit(config: Config) -> Iterator[Finding]:
    """QLoRA is LoRA on a 4-bit base."""
    adapter = config.adapter
    if adapter.adapter != "qlora":
        return
    if adapter.load_in_8bit:
        hint = "adapter: lora works with load_in_8bit"
        yield error("adapter: qlora means a 4-bit base, not an 8-bit one", "load_in_8bit", "adapter", hint=hint)
    elif adapter.gptq:
        yield error("adapter: qlora cannot start from a GPTQ model", "gptq", "adapter", hint="write adapter: lora")
    elif not adapter.load_in_4bit and not adapter.merge_lora:
        yield error("qlora needs load_in_4bit: true", "adapter", "load_in_4bit", hint="or write adapter: lora")


def one_quantization(config: Config) -> Iterator[Finding]:
    """The model's own quantization and bitsandbytes exclude each other."""
    if config.quantization.model_quantization_config is None:
        return
    for key in ("load_in_4bit", "load_in_8bit"):
        if getattr(config.adapter, key):
            yield error(f"cannot be combined with {key}", "model_quantization_config", key)


def lora_keys_need_adapter(config: Config) -> Iterator[Finding]:
    """LoRA keys in a full fine-tune are a sign of a forgotten ``adapter``."""
    if config.adapter.adapter is not None:
        return
    found = [key for key in _LORA_KEYS if is_set(config, key) and getattr(config.adapter, key)]
    if found:
        others = f" (and {', '.join(found[1:])})" if found[1:] else ""
        yield warning(f"has no effect without adapter: lora{others}", found[0], hint="all parameters are trained")


def bnb_keys_need_4bit(config: Config) -> Iterator[Finding]:
    """4-bit settings without a 4-bit base."""
    if config.adapter.load_in_4bit:
        return
    for key in _BNB_4BIT_KEYS:
        if getattr(config.adapter, key) is not None:
            yield warning("has no effect without load_in_4bit: true", key, "load_in_4bit")


def target_patterns_compile(config: Config) -> Iterator[Finding]:
    """Module patterns are regular expressions (or plain names, which are too)."""
    for key in ("lora_target_modules", "lora_exclude_modules"):
        value = getattr(config.adapter, key)
        is_one = isinstance(value, str)
        for index, pattern in enumerate([value] if is_one else value or ()):
            try:
                re.compile(pattern)
            except re.error as problem:
                path = (key,) if is_one else (key, index)
                yield error(f"{pattern!r} is not a regular expression: {problem}", path)


def target_parameters_need_no_dropout(config: Config) -> Iterator[Finding]:
    """PEFT cannot drop inputs of a bare parameter."""
    if config.adapter.lora_target_parameters and config.adapter.lora_dropout:
        yield error("has to be 0 with lora_target_parameters", "lora_dropout", "lora_target_parameters")


def layers_pattern_needs_layers(config: Config) -> Iterator[Finding]:
    """The pattern says what the layer numbers count in."""
    if config.adapter.peft_layers_pattern and not config.adapter.peft_layers_to_transform:
        yield error("needs peft_layers_to_transform", "peft_layers_pattern", "peft_layers_to_transform")


def unfrozen_parameters_fit(config: Config) -> Iterator[Finding]:
    """Which parameters a full fine-tune trains: entries that can be read, and nothing that undoes them."""
    entries, distributed = config.training.unfrozen_parameters, config.distributed
    if not entries:
        return
    if config.adapter.adapter:
        hint = "an adapter freezes all others; lora_modules_to_save names what is trained beside it"
        yield error("cannot be combined with an adapter", "unfrozen_parameters", "adapter", hint=hint)
    for index, entry in enumerate(entries):
        try:
            has_rows = parse_unfrozen(entry).first is not None
        except ValueError as problem:
            yield error(f"{entry!r}: {problem}", ("unfrozen_parameters", index))
            continue
        if has_rows and config.training.weight_decay:
            message = "has to be 0 with a range in unfrozen_parameters: it would shrink the frozen rows"
            yield error(message, "weight_decay", "unfrozen_parameters")
        for key in ("deepspeed", "fsdp", "fsdp_config", "fsdp_version"):
            if has_rows and getattr(distributed, key):
                yield error(f"a range cannot be combined with {key}", ("unfrozen_parameters", index), key)


_INIT_WEIGHTS = ("gaussian", "pissa", "olora", "orthogonal")
_INIT_UNSUPPORTED = {
    "eva": "it starts from activations on the training data",
    "corda": "it starts from activations on the training data",
    "lora_ga": "it starts from gradients on the training data",
    "mica": "it is an experiment of PEFT's",
}


def initial_weights_fit(config: Config) -> Iterator[Finding]:
    """How the adapter starts: a known way, and one that the base allows."""
    adapter, value = config.adapter, config.adapter.peft_init_lora_weights
    if not isinstance(value, str):
        return
    key = "peft_init_lora_weights"
    if value == "loftq":
        if adapter.loftq_bits is None:
            yield error("loftq needs its bits", key, "peft", hint="peft: {loftq_config: {loftq_bits: 4}}")
    elif value in _INIT_UNSUPPORTED:
        hint = f"{', '.join(_INIT_WEIGHTS)}, pissa_niter_16 and loftq are supported"
        yield error(f"not yet supported: {value} ({_INIT_UNSUPPORTED[value]})", key, hint=hint)
    elif value not in _INIT_WEIGHTS and not re.fullmatch(r"pissa_niter_\d+", value):
        hint = did_you_mean(value, _INIT_WEIGHTS) or f"known are {', '.join(_INIT_WEIGHTS)}, pissa_niter_16"
        yield error(f"unknown way to start an adapter: {value!r}", key, hint=hint)
    if value.startswith(("pissa", "olora")):
        for bits in ("load_in_4bit", "load_in_8bit"):
            if getattr(adapter, bits):
                yield error(f"{value} takes the base's weights apart, which {bits} keeps quantized", key, bits)
    if value == "orthogonal" and (adapter.lora_r or 8) % 2:
        yield error("has to be even with peft_init_lora_weights: orthogonal", "lora_r", key)


def loftq_fits(config: Config) -> Iterator[Finding]:
    """LoftQ fills a plain LoRA on a base of as many bits as it was told."""
    adapter, bits = config.adapter, config.adapter.loftq_bits
    if bits is None:
        return
    if adapter.adapter is None:
        yield warning("has no effect without adapter: lora", "peft", "adapter")
    for wrong, key in ((4, "load_in_8bit"), (8, "load_in_4bit")):
        if bits == wrong and getattr(adapter, key):
            yield error(f"{bits} does not fit {key}", ("peft", "loftq_config", "loftq_bits"), key)
    start = adapter.peft_init_lora_weights
    if start not in (None, True, "loftq"):
        message = "cannot be combined with loftq_config: both say how the adapter starts"
        yield error(message, "peft_init_lora_weights", "peft")
    for key in ("peft_use_dora", "lora_target_parameters", "peft_layer_replication"):
        if getattr(adapter, key):
            yield error("cannot be combined with loftq_config", key, "peft")


_NEED_REFERENCE = ("dpo", "ipo", "kto", "grpo", "gdpo")


def reference_is_the_released_model(config: Config) -> Iterator[Finding]:
    """The reference model is the base with the adapter switched off, or a copy of the start (PiSSA, OLoRA)."""
    adapter, rl = config.adapter, config.preference.rl
    if rl not in _NEED_REFERENCE or adapter.adapter is None:
        return
    if adapter.relora:
        yield error(f"changes the base, which is the reference model of {rl}", "relora", "rl")
    if adapter.loftq_bits is not None:
        message = f"LoftQ starts from another model than the rounded base, which is the reference model of {rl}"
        yield error(message, "peft", "rl")


def learning_rate_groups_or_loraplus(config: Config) -> Iterator[Finding]:
    """Both set learning rates by parameter."""
    if config.training.lr_groups and config.adapter.loraplus_lr_ratio:
        yield error("cannot be combined with loraplus_lr_ratio", "lr_groups", "loraplus_lr_ratio")


def trains_new_embeddings(config: Config) -> bool:
    """Whether something trains the embeddings of tokens that are added to the vocabulary."""
    adapter = config.adapter
    if not adapter.adapter:
        return True
    named = (adapter.lora_target_modules, adapter.lora_target_parameters)
    parts = [part for value in named for part in ([value] if isinstance(value, str) else value or ())]
    targeted = any(re.search("emb|wte", part) for part in parts)
    return bool(adapter.lora_modules_to_save or adapter.peft_trainable_token_indices or targeted)


def new_tokens_are_trained(config: Config) -> Iterator[Finding]:
    """Without it the embeddings of added tokens stay what chance made of them."""
    if config.model.tokens and not trains_new_embeddings(config):
        hint = "lora_modules_to_save: [embed_tokens, lm_head] (as the model calls them) trains them"
        yield warning("an adapter does not train the embeddings of added tokens", "tokens", "adapter", hint=hint)


_RELORA_OPTIMIZERS = words(
    """adamw_torch adamw_torch_fused adamw_anyprecision adamw_bnb_8bit adamw_8bit paged_adamw_8bit paged_adamw_32bit
lion lion_32bit lion_8bit paged_lion_32bit paged_lion_8bit adopt_adamw muon sgd"""
)
"""Those that remember values of the parameter's own shape, which can be zeroed one by one."""


def relora_needs_restarts(config: Config) -> Iterator[Finding]:
    """ReLoRA merges at the restarts of the schedule, on one device's copy of the weights."""
    adapter, training = config.adapter, config.training
    if not adapter.relora:
        for key in ("relora_prune_ratio", "relora_cpu_offload"):
            if getattr(adapter, key) is not None:
                yield warning("has no effect without relora: true", key, "relora")
        return
    if not training.jagged_restart_steps:
        yield error("needs jagged_restart_steps", "relora", "jagged_restart_steps")
    if adapter.adapter not in ("lora", "qlora"):
        yield error("needs adapter: lora or qlora", "relora", "adapter")
    for key in ("deepspeed", "fsdp", "fsdp_config", "fsdp_version"):
        if getattr(config.distributed, key):
            yield error(f"cannot be combined with {key}", "relora", key)
    if training.lr_scheduler == "one_cycle":
        yield error("cannot be combined with lr_scheduler: one_cycle", "relora", "lr_scheduler")
    if training.optimizer not in _RELORA_OPTIMIZERS:
        hint = f"there are {', '.join(_RELORA_OPTIMIZERS)}"
        yield error(f"cannot be combined with optimizer: {training.optimizer}", "relora", "optimizer", hint=hint)
    if config.checkpointing.load_best_model_at_end:
        hint = "resume_from_checkpoint goes on from any checkpoint"
        yield error("cannot be combined with load_best_model_at_end", "relora", "load_best_model_at_end", hint=hint)


def relora_adds_plain_lora(config: Config) -> Iterator[Finding]:
    """What is merged at a restart is s B A on a linear layer, and the next adapter starts without effect."""
    adapter = config.adapter
    if not adapter.relora:
        return
    for key in ("peft_use_dora", "lora_target_parameters", "peft_layer_replication", "peft_trainable_token_indices"):
        if getattr(adapter, key):
            yield error(f"cannot be combined with {key}", "relora", key)
    if adapter.loftq_bits is not None:
        yield error("cannot be combined with loftq_config", "relora", "peft")
    if adapter.peft_init_lora_weights not in (None, True, "gaussian"):
        message = f"cannot be combined with peft_init_lora_weights: {adapter.peft_init_lora_weights}"
        yield error(message, "relora", "peft_init_lora_weights")


def moe_quantization_needs_adapter(config: Config) -> Iterator[Finding]:
    """Quantized experts are frozen; what is trained has to be named parameter by parameter."""
    if not config.quantization.quantize_moe_experts:
        return
    if config.adapter.adapter not in ("lora", "qlora"):
        yield error("needs adapter: lora or qlora", "quantize_moe_experts", "adapter")
    if not (config.adapter.load_in_4bit or config.adapter.load_in_8bit):
        yield error("needs load_in_4bit or load_in_8bit", "quantize_moe_experts", "load_in_4bit")
    if config.adapter.lora_target_linear:
        hint = "name the experts in lora_target_parameters"
        yield error("cannot be combined with quantize_moe_experts", "lora_target_linear", hint=hint)


def qat_or_quantized_base(config: Config) -> Iterator[Finding]:
    """Quantization-aware training needs full weights."""
    if config.quantization.qat is None:
        return
    for key in ("load_in_4bit", "load_in_8bit", "peft", "adapter", "gptq"):
        if getattr(config.adapter, key):
            yield error(f"cannot be combined with {key}", "qat", key)


def qat_types_train(config: Config) -> Iterator[Finding]:
    """Pairs of types that torchao both rounds to and trains through: gradients underflow in its float8."""
    settings = config.quantization.qat
    if settings is None:
        return
    if settings.weight_dtype not in ("int4", "int8"):
        hint = "weight_dtype: int4 or int8, activation_dtype: int8 or none"
        yield error(f"not yet supported: {settings.weight_dtype}", ("qat", "weight_dtype"), hint=hint)
    if settings.activation_dtype not in (None, "int8"):
        hint = "int8, or leave it out"
        yield error(f"not yet supported: {settings.activation_dtype}", ("qat", "activation_dtype"), hint=hint)


def bitnet_without_adapter(config: Config) -> Iterator[Finding]:
    """BitNet layers take no LoRA."""
    if config.model.use_onebitllms and config.adapter.adapter:
        yield error("cannot be combined with an adapter", "use_onebitllms", "adapter")


RULES: list[Rule] = [
    one_bit_width,
    qlora_needs_4bit,
    one_quantization,
    lora_keys_need_adapter,
    bnb_keys_need_4bit,
    target_patterns_compile,
    target_parameters_need_no_dropout,
    layers_pattern_needs_layers,
    unfrozen_parameters_fit,
    initial_weights_fit,
    loftq_fits,
    reference_is_the_released_model,
    learning_rate_groups_or_loraplus,
    new_tokens_are_trained,
    relora_needs_restarts,
    relora_adds_plain_lora,
    moe_quantization_needs_adapter,
    qat_or_quantized_base,
    qat_types_train,
    bitnet_without_adapter,
]
