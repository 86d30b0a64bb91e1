"""Reward functions for `smollm2-grpo.yml`: each returns one number for every completion."""

from __future__ import annotations

from typing import Any

Messages = list[dict[str, str]]


def short(completions: list[Messages], **columns: Any) -> list[float]:
    """1 for an answer of no words, 0 for one of 25 or more."""
    return [max(0.0, 1.0 - len(text_of(completion).split()) / 25) for completion in completions]


def ends(completions: list[Messages], **columns: Any) -> list[float]:
    """1 for an answer that ends with the end of a sentence, and was not cut off amid one."""
    return [float(text_of(completion).rstrip().endswith((".", "!", "?"))) for completion in completions]


def text_of(completion: Messages) -> str:
    """What the model answered."""
    return completion[0]["content"]
