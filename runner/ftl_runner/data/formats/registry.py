"""Names of dataset formats, what a row of each looks like, and how a ``type:`` finds its format."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ftl_config.schema.data import DataSection, DatasetSpec, UserDefinedType
from ftl_runner.data.errors import DataError, did_you_mean
from ftl_runner.data.messages import Example
from ftl_runner.data.rows import Row

Format: TypeAlias = Callable[[Row], Example]
"""Turns one row into what is trained.

Raises:
    RowError: the row lacks something; the caller adds file and row.
"""

_HERE = "ftl_runner.data.formats"


@dataclass(frozen=True)
class Entry:
    """``target`` is ``module:factory`` below this package; the factory takes (spec, data section, variant)."""

    target: str
    sample: Mapping[str, Any]
    variant: str = ""
    template: str | None = None
    """A shipped chat template that the type fixes (preference types)."""


def _turns(role: str, first: str, second: str) -> list[dict[str, str]]:
    return [{role: first, "value": "Hi"}, {role: second, "value": "Hello"}]


_CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
_ALPACA = {"instruction": "Add.", "input": "1 + 1", "output": "2"}
_QA = {"question": "Capital of Peru?", "answer": "Lima"}
_SYSTEM = {"system": "Be brief.", **_ALPACA}
_ORCA = {"system_prompt": "Be brief.", "question": "1 + 1?", "response": "2"}
_CONTEXT = {"context": "Lima is in Peru.", "question": "Where is Lima?", "answer": "In Peru."}
_REFLECTION = {**_ALPACA, "output": "3", "reflection": "That is too much.", "corrected": "2"}
_CREATIVE = {
    "instruction": "Name a colour.",
    "answer": "Red.",
    "scores": {"creativity": 3},
    "critiques": {"creativity": {"explanation": "Common.", "improvements": "Be bold."}},
    "revision": "Heliotrope.",
}
_CHOICE = {"question": "Pick.", "choices": ["a", "b"], "solution": "a", "explanation": "It comes first."}

REGISTRY: Mapping[str, Entry] = {
    "chat_template": Entry("chat:chat_template", _CHAT),
    "alpaca": Entry("alpaca:alpaca", _ALPACA),
    "chat_template.default": Entry("chat:chat_template", _CHAT),
    "alpaca_instruct": Entry("alpaca:alpaca", _ALPACA, "instruct"),
    "alpaca_instruct.load": Entry("alpaca:alpaca", _ALPACA, "instruct"),
    "alpaca_chat": Entry("alpaca:alpaca", _ALPACA, "chat"),
    "alpaca_chat.load": Entry("alpaca:alpaca", _ALPACA, "chat"),
    "alpaca_chat.load_concise": Entry("alpaca:concise", _ALPACA, "chat"),
    "alpaca_chat.load_qa": Entry("alpaca:question_answer", _QA, "chat"),
    "alpaca_chat.load_camel_ai": Entry("alpaca:camel", {"message_1": "Hi", "message_2": "Hello"}, "chat"),
    "alpaca_chat.load_no_prompt": Entry("alpaca:no_prompt", _ALPACA, "chat"),
    "alpaca_w_system": Entry("alpaca:with_system", _SYSTEM),
    "alpaca_w_system.load": Entry("alpaca:with_system", _SYSTEM),
    "alpaca_w_system.load_instruct": Entry("alpaca:with_system", _SYSTEM, "instruct"),
    "alpaca_w_system.load_chat": Entry("alpaca:with_system", _SYSTEM, "chat"),
    "alpaca_w_system.load_open_orca": Entry("alpaca:open_orca", _ORCA),
    "alpaca_w_system.load_open_orca_chatml": Entry("alpaca:open_orca", _ORCA, "chatml"),
    "gpteacher": Entry("alpaca:gpteacher", {"instruction": "Add.", "input": "1 + 1", "response": "2"}),
    "oasst": Entry("alpaca:oasst", {"INSTRUCTION": "Say hi.", "RESPONSE": "Hi"}),
    "reflection": Entry("alpaca:reflection", _REFLECTION),
    "orcamini": Entry("alpaca:orcamini", {"system": "Be brief.", "instruction": "Add 1 and 1.", "output": "2"}),
    "jeopardy": Entry("alpaca:jeopardy", {"category": "Cities", "question": "Capital of Peru", "answer": "Lima"}),
    "summarizetldr": Entry("alpaca:summarize_tldr", {"article": "A long story.", "summary": "A story."}),
    "explainchoice": Entry("alpaca:explain_choice", _CHOICE),
    "concisechoice": Entry("alpaca:concise_choice", _CHOICE),
    "metharme": Entry("alpaca:metharme", {"prompt": "<|user|>Hi<|model|>", "generation": "Hello"}),
    "completion": Entry("completion:completion", {"text": "Once upon a time."}),
    "pretrain": Entry("completion:completion", {"text": "Once upon a time."}),
    "input_output": Entry("input_output:input_output", {"input": "1 + 1?", "output": "2"}),
    "context_qa": Entry("context_qa:context_qa", _CONTEXT),
    "context_qa.load": Entry("context_qa:context_qa", _CONTEXT),
    "context_qa.load_v2": Entry("context_qa:context_qa", _CONTEXT, "v2"),
    "context_qa.load_404": Entry("context_qa:unanswerable", {"context": "Lima is in Peru.", "question": "Who won?"}),
    "creative_acr.load_answer": Entry("creative:answer", _CREATIVE),
    "creative_acr.load_critique": Entry("creative:critique", _CREATIVE),
    "creative_acr.load_revise": Entry("creative:revise", _CREATIVE),
    "pygmalion": Entry("pygmalion:pygmalion", {"conversations": _turns("role", "human", "bot")}),
    "llama2_chat": Entry("chat:sharegpt", {"conversation": _turns("from", "human", "gpt")}),
    "messages.chat": Entry("chat:chat_template", _CHAT),
    "pretokenized": Entry("pretokenized:pretokenized", {"input_ids": [1, 2], "labels": [-100, 2]}),
}
_USER_DEFINED = "user_defined:user_defined"
_PRETOKENIZED = "pretokenized:pretokenized"
_PYTHON_PATH = "python_path:python_path"


def find_format(spec: DatasetSpec, data: DataSection) -> Format:
    """The format of a dataset entry, with its options bound.

    Raises:
        DataError: unknown ``type:``.
    """
    if isinstance(spec.type, UserDefinedType):
        return _load(_USER_DEFINED, spec, data, "")
    name = (spec.type or "").strip()
    if name not in REGISTRY and name.removesuffix(".load") in REGISTRY:
        name = name.removesuffix(".load")  # Axolotl's default function of a module
    if not name:
        return _load(_PRETOKENIZED, spec, data, "")
    entry = REGISTRY.get(name)
    if entry is not None:
        return _load(entry.target, spec, data, entry.variant)
    base, _, style = name.partition(":")
    if style and base in REGISTRY:
        return _load(REGISTRY[base].target, spec, data, style)
    if methods := preference_methods(name):
        raise DataError(f"type: {name} is preference data", f"it goes with {', with '.join(methods)}")
    if "." in name:
        return _load(_PYTHON_PATH, spec, data, name)
    raise unknown_type(name)


def unknown_type(name: str) -> DataError:
    """The error for a ``type:`` that nothing answers to."""
    if name.startswith("sharegpt"):
        hint: str | None = (
            "sharegpt rows: type: chat_template, field_messages: conversations, "
            "message_property_mappings: {role: from, content: value}"
        )
    else:
        hint = did_you_mean(name, REGISTRY) or "ftl preprocess --list-types shows them all"
    return DataError(f"unknown dataset type {name!r}", hint)


def preference_methods(name: str) -> list[str]:
    """The config keys that a preference type goes with; none for other types."""
    from ftl_runner.data.formats.preference_registry import GROUPS

    return [group.title for group in GROUPS if name in group.types]


def list_types() -> list[tuple[str, list[tuple[str, Mapping[str, Any]]]]]:
    """Every ``type:`` with a row it reads, below the config key that it goes with."""
    from ftl_runner.data.formats.preference_registry import GROUPS

    groups = [("supervised fine-tuning", REGISTRY), *((group.title, group.types) for group in GROUPS)]
    return [(title, [(name, entry.sample) for name, entry in types.items()]) for title, types in groups]


def load_format(target: str, spec: DatasetSpec, data: DataSection, variant: str) -> Any:
    """What the factory ``module:factory`` of this package makes for a dataset entry."""
    module, _, factory = target.partition(":")
    return getattr(importlib.import_module(f"{_HERE}.{module}"), factory)(spec, data, variant)


def _load(target: str, spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    made: Format = load_format(target, spec, data, variant)
    if not spec.input_transform:
        return made
    from ftl_runner.data.formats.python_path import before_format

    return before_format(spec.input_transform, made)
