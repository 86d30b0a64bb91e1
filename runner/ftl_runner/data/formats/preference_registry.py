"""Names of preference types: which there are depends on the method (``rl``, ``reward_model``, ...)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ftl_config.schema.data import DatasetSpec, UserDefinedType
from ftl_runner.data.errors import DataError, did_you_mean
from ftl_runner.data.formats.registry import REGISTRY, Entry, load_format
from ftl_runner.data.messages import Preference
from ftl_runner.data.rows import Row

if TYPE_CHECKING:
    from ftl_config import Config

Kind: TypeAlias = Literal["pair", "unpaired", "reward", "steps", "task"]
PreferenceFormat: TypeAlias = Callable[[Row], Preference]

_ANSWERS = {"chosen": "4", "rejected": "5"}
_QUESTION = [{"role": "user", "content": "2 + 2?"}]
_FOUR, _FIVE = ([*_QUESTION, {"role": "assistant", "content": text}] for text in ("4", "5"))
_LISTS = {"chosen": _FOUR, "rejected": _FIVE}
_MESSAGES = {
    "messages": _QUESTION,
    "chosen": {"role": "assistant", "content": "4"},
    "rejected": {"role": "assistant", "content": "5"},
}
_TEXTS = {"prompt": "2 + 2 = ", **_ANSWERS}
_SYSTEM = {"system": "Be brief."}


def _pair_family(template: str) -> dict[str, Entry]:
    """The column layouts that chatml and llama3 share."""
    answers = {"chosen_response": "4", "rejected_response": "5"}

    def entry(question: str, sample: Mapping[str, Any], chosen: str = "chosen", rejected: str = "rejected") -> Entry:
        row = {**_SYSTEM, question: "2 + 2?", **sample}
        return Entry("pairs:columns", row, f"{template}:{question}:{chosen}:{rejected}", template)

    return {
        f"{template}.argilla": entry("instruction", answers, "chosen_response", "rejected_response"),
        f"{template}.default": Entry("pairs:any_columns", {"input": "2 + 2?", **_ANSWERS}, template, template),
        f"{template}.argilla_chat": Entry("pairs:conversations", _LISTS, template, template),
        f"{template}.icr": entry("input", _ANSWERS),
        f"{template}.intel": entry("question", _ANSWERS),
        f"{template}.prompt_pairs": entry("prompt", _ANSWERS),
        f"{template}.ultra": entry("prompt", _LISTS),
    }


def _unpaired_family(template: str) -> dict[str, Entry]:
    judged = {"completion": _FOUR, "label": True}

    def entry(question: str) -> Entry:
        row = {**_SYSTEM, question: "2 + 2?", "completion": "4", "label": True}
        return Entry("unpaired:columns", row, f"{template}:{question}", template)

    return {
        f"{template}.argilla": entry("instruction"),
        f"{template}.argilla_chat": Entry("unpaired:conversations", judged, template, template),
        f"{template}.intel": entry("question"),
        f"{template}.prompt_pairs": entry("prompt"),
        f"{template}.ultra": entry("prompt"),
    }


PAIRS: Mapping[str, Entry] = {
    "chat_template.default": Entry("pairs:messages", _MESSAGES),
    "chat_template.argilla_chat": Entry("pairs:conversations", _LISTS),
    "chat_template": Entry("pairs:messages_or_argilla", {**_SYSTEM, "prompt": "2 + 2?", **_LISTS}),
    "chat_template.load": Entry("pairs:argilla", {**_SYSTEM, "prompt": "2 + 2?", **_LISTS}),
    "chat_template.argilla": Entry("pairs:argilla", {**_SYSTEM, **_LISTS}),
    **_pair_family("chatml"),
    **_pair_family("llama3"),
    "zephyr.nectar": Entry(
        "pairs:nectar",
        {"prompt": "2 + 2?", "answers": [{"answer": "4", "rank": 1}, {"answer": "5", "rank": 2}]},
        template="zephyr",
    ),
    "passthrough": Entry("pairs:passthrough", _TEXTS),
    "user_defined.default": Entry("pairs:written", _TEXTS),
}
UNPAIRED: Mapping[str, Entry] = {
    **_unpaired_family("chatml"),
    **_unpaired_family("llama3"),
    "passthrough": Entry("unpaired:passthrough", {"prompt": "2 + 2 = ", "completion": "4", "label": True}),
    "user_defined.default": Entry("unpaired:written", {"prompt": "2 + 2 = ", "completion": "4", "label": True}),
}
REWARD: Mapping[str, Entry] = {
    "bradley_terry.chat_template": Entry("pairs:reward", {**_SYSTEM, "input": "2 + 2?", **_ANSWERS}),
    "bradley_terry.llama3": Entry("pairs:reward", {**_SYSTEM, "input": "2 + 2?", **_ANSWERS}, "llama3", "llama3"),
    "bradley_terry.llama3.icr": Entry("pairs:reward", {**_SYSTEM, "input": "2 + 2?", **_ANSWERS}, "llama3", "llama3"),
}
STEPS: Mapping[str, Entry] = {
    "stepwise_supervised": Entry(
        "steps:stepwise",
        {"prompt": "2 + 2 + 1?", "completions": ["2 + 2 = 4", "4 + 1 = 6"], "labels": [True, False]},
    ),
}
TASKS: Mapping[str, Entry] = {
    "passthrough": Entry("tasks:prompts", {"prompt": _QUESTION, "answer": "4"}),
    "chat_template": Entry("tasks:messages", {"messages": _QUESTION, "answer": "4"}),
    "chat_template.default": Entry("tasks:messages", {"messages": _QUESTION, "answer": "4"}),
}


@dataclass(frozen=True)
class Group:
    """The types of one kind of data, and the config keys that ask for it."""

    kind: Kind
    title: str
    types: Mapping[str, Entry]
    shape: str
    """What a function of the user's own returns for it."""


GROUPS = (
    Group("pair", "rl: dpo, ipo, simpo or orpo", PAIRS, "prompt, chosen, rejected"),
    Group("unpaired", "rl: kto", UNPAIRED, "prompt, completion, label"),
    Group("reward", "reward_model: true", REWARD, "input, chosen, rejected"),
    Group("steps", "process_reward_model: true", STEPS, "prompt, completions, labels"),
    Group("task", "rl: grpo or gdpo", TASKS, "prompt, and columns for the reward functions"),
)
_BY_KIND = {group.kind: group for group in GROUPS}
_OWN_SHAPES = {
    "pair": PAIRS["passthrough"],
    "unpaired": UNPAIRED["passthrough"],
    "reward": REWARD["bradley_terry.chat_template"],
    "steps": STEPS["stepwise_supervised"],
    "task": TASKS["passthrough"],
}
"""The format that reads what a function of the user's own returns."""
_METHODS: Mapping[str, Kind] = {
    **dict.fromkeys(("dpo", "ipo", "simpo", "orpo"), "pair"),
    "kto": "unpaired",
    "grpo": "task",
    "gdpo": "task",
}


def kind_of(config: Config) -> Kind | None:
    """The kind of data that a config's method trains on; None for supervised fine-tuning.

    Raises:
        DataError: a method whose data cannot be prepared yet.
    """
    preference = config.preference
    if preference.process_reward_model:
        return "steps"
    if preference.reward_model:
        return "reward"
    if preference.rl is None:
        return None
    if preference.rl not in _METHODS:
        raise DataError(f"rl: {preference.rl}: its data cannot be prepared yet", f"known: {', '.join(_METHODS)}")
    return _METHODS[preference.rl]


def find_preference_format(spec: DatasetSpec, kind: Kind, config: Config, tokenizer: Any = None) -> PreferenceFormat:
    """The format of a dataset entry for a kind of data, with its options bound.

    Raises:
        DataError: unknown ``type:``.
    """
    made = _find(spec, kind, config, tokenizer)
    if not spec.input_transform:
        return made
    from ftl_runner.data.formats.python_path import before_format

    return before_format(spec.input_transform, made)


def _find(spec: DatasetSpec, kind: Kind, config: Config, tokenizer: Any) -> PreferenceFormat:
    group, data = _BY_KIND[kind], config.data
    if isinstance(spec.type, UserDefinedType):
        entry = group.types.get("user_defined.default")
        if entry is None:
            raise DataError(f"a mapping under type: has no meaning with {group.title}", _known(group))
        made: PreferenceFormat = load_format(entry.target, spec, data, "")
        return made
    name = (spec.type or "").strip()
    if not name and kind in ("task", "steps"):
        name = next(iter(group.types))
    name = _full_name(name, group)
    entry = group.types.get(name)
    if entry is not None:
        made = load_format(entry.target, spec, data, entry.variant)
        return made
    if not is_own_function(name, kind):
        raise _unknown(name, group)
    from ftl_runner.data.formats.own_transform import own_transform

    own = _OWN_SHAPES[kind]
    return own_transform(spec, load_format(own.target, spec, data, own.variant), group.shape, config, tokenizer)


def _full_name(name: str, group: Group) -> str:
    """``chatml`` means ``chatml.default``, and ``passthrough.default`` means ``passthrough``, as in Axolotl."""
    if name in group.types or f"{name}.default" not in group.types:
        return name if name in group.types else name.removesuffix(".default")
    return f"{name}.default"


def template_of(spec: DatasetSpec, kind: Kind) -> tuple[str | None, bool] | None:
    """The shipped template that a type fixes (None: the config's), and whether its rows need one; None without any."""
    name = spec.type.strip() if isinstance(spec.type, str) else "user_defined.default" if spec.type else ""
    entry = _BY_KIND[kind].types.get(_full_name(name, _BY_KIND[kind]))
    if entry is None:
        return None if kind == "steps" else (None, False)
    if entry.target.endswith((":written", ":stepwise")):
        return None
    return entry.template, not entry.target.endswith((":passthrough", ":prompts"))


def is_own_function(name: str, kind: Kind) -> bool:
    """Whether ``type:`` is the dotted path of a function of the user's own."""
    if name in REGISTRY or _full_name(name, _BY_KIND[kind]) in _BY_KIND[kind].types:
        return False
    return "." in name and not any(name in group.types for group in GROUPS)


def _unknown(name: str, group: Group) -> DataError:
    if name in REGISTRY:
        return DataError(f"type: {name} does not go with {group.title}", _known(group))
    for other in GROUPS:
        if name in other.types:
            return DataError(f"type: {name} goes with {other.title}, not with {group.title}", _known(group))
    hint = did_you_mean(name, group.types) if name else None
    return DataError(f"unknown dataset type {name!r} for {group.title}", hint or _known(group))


def _known(group: Group) -> str:
    return f"types for {group.title}: {', '.join(group.types)}, or the dotted path of a function"
