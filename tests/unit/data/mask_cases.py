"""Every shipped chat template with what a model is meant to write under it: the oracle of the mask tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

EVERY = frozenset({"system", "user", "assistant"})
ANSWER = frozenset({"assistant"})


@dataclass(frozen=True)
class Case:
    """A template: ``lead``, ``tail`` and ``end`` stand around an answer's content, which may be trimmed.

    The tail leads to the end, and is trained with it.
    """

    template: str
    end: str
    lead: str = ""
    tail: str = ""
    trimmed: frozenset[str] = frozenset()
    """Roles whose contents are trimmed."""
    ended: frozenset[str] = EVERY
    """Roles that the end stands directly behind."""
    answer_end: str = ""
    """An end-of-turn token of answers alone, in front of ``end``, which is then the end-of-sequence token."""
    tools: bool = False
    reasoning: bool = False
    bos: str = "<|endoftext|>"
    eos: str = "<|endoftext|>"

    def content(self, message: Mapping[str, Any]) -> str:
        text: str = message["content"]
        return text.strip() if message["role"] in self.trimmed else text

    def body(self, message: Mapping[str, Any]) -> str:
        """What is trained of a message without its end."""
        if message["role"] != "assistant":
            return self.content(message)
        thought = message.get("reasoning_content")
        parts = [self.lead, f"<think>\n{thought}\n</think>\n\n" if thought else "", self.content(message)]
        for number, call in enumerate(message.get("tool_calls") or ()):
            function = call["function"]
            arguments = json.dumps(function["arguments"], ensure_ascii=False)
            written = f'<tool_call>\n{{"name": "{function["name"]}", "arguments": {arguments}}}\n</tool_call>'
            parts.append(("\n" if message["content"] or number else "") + written)
        return "".join(parts)


def _ends_with_eos(name: str, lead: str = "", tail: str = "", trimmed: frozenset[str] = frozenset()) -> Case:
    return Case(name, "</s>", lead, tail, trimmed, ended=ANSWER, bos="<s>", eos="</s>")


_TURNS = frozenset({"user", "assistant"})
_GEMMA = {"trimmed": _TURNS, "ended": _TURNS}
CASES = [
    Case("tokenizer_default", "<|im_end|>"),
    Case("chatml", "<|im_end|>", eos="<|im_end|>"),
    Case("falcon_h1", "<|im_end|>"),
    Case("lfm2", "<|im_end|>"),
    Case("llama3", "<|eot_id|>", trimmed=EVERY),
    Case("llama4", "<|eot|>", trimmed=EVERY),
    *(Case(name, "<end_of_turn>", trimmed=_TURNS, ended=_TURNS) for name in ("gemma", "gemma3", "gemma3n")),
    Case("phi_3", "<|end|>"),
    Case("phi_4", "<|im_end|>"),
    _ends_with_eos("mistral_v1", " "),
    _ends_with_eos("mistral_v2v3", " "),
    _ends_with_eos("mistral_v3_tekken"),
    _ends_with_eos("mistral_v7_tekken"),
    Case("qwen2_5", "<|im_end|>", tools=True),
    Case("qwen3", "<|im_end|>", tools=True, reasoning=True, eos="<|im_end|>"),
    _ends_with_eos("deepseek_v2", " "),
    _ends_with_eos("deepseek_v3"),
    _ends_with_eos("alpaca"),
    Case("cohere", "<|END_OF_TURN_TOKEN|>", trimmed=EVERY),
    _ends_with_eos("metharme"),
    Case("exaone", "[|endofturn|]", ended=frozenset({"system", "assistant"})),
    Case("exaone4", "[|endofturn|]"),
    Case("granite", "<|end_of_text|>"),
    Case("gemma4", "<turn|>", trimmed=EVERY),
    Case("qwen2_vl", "<|im_end|>"),
    Case("command_a", "<|END_OF_TURN_TOKEN|>", answer_end="<|END_RESPONSE|>", eos="<|END_OF_TURN_TOKEN|>"),
    Case("zephyr", "</s>", bos="<s>", eos="</s>"),
    _ends_with_eos("llama2", " ", " ", _TURNS),
    _ends_with_eos("vicuna", " "),
    Case("jamba", "<|eom|>", lead=" ", ended=frozenset({"assistant", "system", "user"})),
]

SPECIAL = (
    *("<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<|header_start|>", "<|header_end|>", "<|eot|>", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>"),
    *("<|system|>", "<|end|>", "<|model|>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    *("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
    *("[|endofturn|]", "<|bom|>", "<|eom|>", "<|end_of_text|>", "<|turn>", "<turn|>"),
    *("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|start_of_role|>", "<|end_of_role|>"),
)


@dataclass(frozen=True)
class Policy:
    """The keys that decide what is trained."""

    roles_to_train: tuple[str, ...] | None = None
    train_on_inputs: bool = False
    train_on_eos: str | None = None
    train_on_eot: str | None = None

    def spec(self) -> dict[str, Any]:
        return {
            name: getattr(self, name)
            for name in ("roles_to_train", "train_on_eos", "train_on_eot")
            if getattr(self, name) is not None
        }

    def trains(self, message: Mapping[str, Any], *, last: bool) -> bool:
        if message.get("train") is not None:
            return bool(message["train"])
        if self.roles_to_train == () and self.train_on_eos is None and self.train_on_eot is None:
            return last
        roles = ("assistant",) if self.roles_to_train is None else self.roles_to_train
        return self.train_on_inputs or message["role"] in roles


def meant(case: Case, policy: Policy, messages: Sequence[Mapping[str, Any]]) -> str:
    """All that is meant to be trained, end to end."""
    on_eos = policy.train_on_eos or "turn"
    on_eot = policy.train_on_eot or on_eos
    on_end = on_eos if case.end == case.eos else on_eot
    ended = [number for number, message in enumerate(messages) if message["role"] in case.ended]
    answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    parts: list[str] = []
    for number, message in enumerate(messages):
        trained = policy.trains(message, last=number == len(messages) - 1)
        parts.append(case.body(message) if trained else "")
        if number in answers and _is_trained(on_eot, trained, number == answers[-1]):
            parts.append(case.answer_end)
        if number in ended and _is_trained(on_end, trained, number == ended[-1]):
            parts.append((case.tail if trained and number in answers else "") + case.end)
    return "".join(parts)


def _is_trained(policy: str, trained: bool, last: bool) -> bool:
    return {"all": True, "turn": trained, "last": last, "none": False}[policy]
