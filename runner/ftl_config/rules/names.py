"""Names that values may have: what is known, what is known but not supported yet, and what is a typo."""

from __future__ import annotations

from collections.abc import Iterator

from ftl_config.nodes import Path
from ftl_config.optimizers import OPTIMIZERS, UNSUPPORTED_OPTIMIZERS
from ftl_config.rules.registry import Finding, Rule, error
from ftl_config.schema.config import Config
from ftl_config.suggest import closest, did_you_mean
from ftl_config.wordlist import words

COMPLETENESS = False

SCHEDULERS = frozenset(
    words("""
        linear cosine cosine_with_restarts polynomial constant constant_with_warmup inverse_sqrt
        reduce_lr_on_plateau cosine_with_min_lr cosine_warmup_with_min_lr warmup_stable_decay greedy
        one_cycle rex
    """)
)
"""transformers.trainer_utils.SchedulerType of transformers 5.17, and Axolotl's one_cycle and rex."""

ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
UNSUPPORTED_ATTENTION = {"sage": "SageAttention", "fp8": "FP8 attention"}
ATTENTION_ALIASES = {
    "flash": "flash_attention_2",
    "flex": "flex_attention",
    "sdp": "sdpa",
    "flash_attention": "flash_attention_2",
}

ADAPTERS = ("lora", "qlora")
UNSUPPORTED_ADAPTERS = ("llama-adapter", "mora")

CHAT_TEMPLATES = frozenset(
    words("""
        alpaca chatml mistral_v1 mistral_v2v3 mistral_v3_tekken mistral_v7_tekken gemma cohere llama3
        llama3_2_vision llama4 phi_3 phi_35 phi_4 deepseek_v2 deepseek_v3 jamba jinja qwen_25 qwen3 qwen3_5
        falcon_h1 nemotron_h tokenizer_default exaone exaone4 metharme pixtral llava qwen2_vl gemma3 gemma3n
        gemma4 gemma4_unified command_a command_a_tool_use command_a_rag aya deepseek gemma2 granite granitemoe lfm2
        llama2 mistral qwen qwen2 qwen2_5 vicuna zephyr
    """)
)
FALLBACK_PREFIX = "tokenizer_default_fallback_"

FILE_KINDS = ("json", "csv", "parquet", "arrow", "text")


def optimizer_is_known(config: Config) -> Iterator[Finding]:
    """A name of transformers' list."""
    name = config.training.optimizer
    if name in UNSUPPORTED_OPTIMIZERS:
        yield error(f"not yet supported: the optimizer {name}", "optimizer", hint="adamw_torch_fused is the nearest")
    elif name not in OPTIMIZERS:
        yield error(f"unknown optimizer {name!r}", "optimizer", hint=did_you_mean(name, OPTIMIZERS))


def scheduler_is_known(config: Config) -> Iterator[Finding]:
    """A name of transformers' list."""
    name = config.training.lr_scheduler
    if name == "jagged_restart":
        yield error("is not a scheduler's name", "lr_scheduler", hint="set jagged_restart_steps beside a schedule")
    elif name not in SCHEDULERS:
        yield error(f"unknown scheduler {name!r}", "lr_scheduler", hint=did_you_mean(name, SCHEDULERS))


def attention_is_known(config: Config) -> Iterator[Finding]:
    """A name of transformers, or a kernel on the hub (which has a slash)."""
    name = config.model.attn_implementation
    if name is None or name in ATTENTION or "/" in name:
        return
    if name in UNSUPPORTED_ATTENTION:
        message = f"not yet supported: {UNSUPPORTED_ATTENTION[name]}"
        yield error(message, "attn_implementation", hint="sdpa and flash_attention_2 compute the same")
        return
    meant = ATTENTION_ALIASES.get(name) or closest(name, ATTENTION)
    hint = f"did you mean `{meant}`?" if meant else f"known are {', '.join(ATTENTION)}, and kernels on the hub"
    yield error(f"unknown attention {name!r}", "attn_implementation", hint=hint)


def adapter_is_known(config: Config) -> Iterator[Finding]:
    """lora or qlora."""
    name = config.adapter.adapter
    if name is None or name in ADAPTERS:
        return
    if name in UNSUPPORTED_ADAPTERS:
        yield error(f"not yet supported: the adapter {name}", "adapter", hint="lora and qlora are")
    else:
        hint = did_you_mean(name, ADAPTERS) or "lora, qlora, or nothing for a full fine-tune"
        yield error(f"unknown adapter {name!r}", "adapter", hint=hint)


def chat_template_is_known(config: Config) -> Iterator[Finding]:
    """A template's name, for the config and for each dataset."""
    names: list[tuple[Path, str | None]] = [(("chat_template",), config.data.chat_template)]
    for key, entries in (("datasets", config.data.datasets), ("test_datasets", config.data.test_datasets)):
        names += [((key, index, "chat_template"), entry.chat_template) for index, entry in enumerate(entries or ())]
    for path, name in names:
        if name is not None and name.removeprefix(FALLBACK_PREFIX) not in CHAT_TEMPLATES:
            hint = did_you_mean(name, CHAT_TEMPLATES) or "a template of your own goes into chat_template_jinja"
            yield error(f"unknown chat template {name!r}", path, hint=hint)


def file_kind_is_known(config: Config) -> Iterator[Finding]:
    """``ds_type`` of each dataset."""
    for key, entries in (("datasets", config.data.datasets), ("test_datasets", config.data.test_datasets)):
        for index, entry in enumerate(entries or ()):
            if entry.ds_type is not None and entry.ds_type not in FILE_KINDS:
                meant = "json" if entry.ds_type == "jsonl" else closest(entry.ds_type, FILE_KINDS)
                hint = f"did you mean `{meant}`?" if meant else f"known are {', '.join(FILE_KINDS)}"
                yield error(f"unknown kind of file {entry.ds_type!r}", (key, index, "ds_type"), hint=hint)


RULES: list[Rule] = [
    optimizer_is_known,
    scheduler_is_known,
    attention_is_known,
    adapter_is_known,
    chat_template_is_known,
    file_kind_is_known,
]
