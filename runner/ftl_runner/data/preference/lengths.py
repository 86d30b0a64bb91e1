"""Length limits of preference examples: what is kept, cut or dropped, and how it is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ftl_runner.data.convert import LengthRule, Tally
from ftl_runner.data.encode import IGNORE_INDEX, Encoded, Ints
from ftl_runner.data.errors import RowError
from ftl_runner.data.length_bins import even_top, power_top


class DroppedError(Exception):
    """An example that is left out and counted: why, and its tokens."""

    def __init__(self, reason: str, tokens: int) -> None:
        super().__init__(reason)
        self.reason, self.tokens = reason, tokens


@dataclass(frozen=True)
class Limits:
    """``sequence_len`` with its strategy, ``max_prompt_len``, and ``max_completion_length`` of steps, in tokens."""

    rule: LengthRule
    max_prompt_len: int | None = None
    max_completion_length: int | None = None

    def fit(self, prompt: Ints, answers: Sequence[Ints], tally: Tally) -> tuple[Ints, list[Ints]]:
        """Prompt and answers within the limits; each answer has to fit behind the prompt.

        Raises:
            DroppedError: nothing is to be learnt from it, or it is too long to be kept.
            RowError: too long, and ``excess_length_strategy: raise``.
        """
        tokens = len(prompt) + sum(map(len, answers))
        if _are_equal(answers):
            raise DroppedError("same_answers", tokens)
        prompt = self._fit_prompt(prompt, tokens, tally)
        longest = len(prompt) + max(map(len, answers))
        if longest < self.rule.min_len:
            raise DroppedError("too_short", tokens)
        limit = self.rule.sequence_len
        if longest <= limit:
            return prompt, list(answers)
        room = max(0, limit - len(prompt))
        self._count_long(longest, tokens, sum(max(0, len(answer) - room) for answer in answers), tally)
        self._refuse_long("prompt and answer", longest, "sequence_len", limit, tokens)
        if not room:
            raise DroppedError("prompt_too_long", tokens)
        cut = [answer[:room] for answer in answers]
        if _are_equal(cut):
            raise DroppedError("same_answers_when_cut", tokens)
        return prompt, cut

    def fit_steps(self, row: Encoded, tally: Tally) -> Encoded:
        """Problem and steps within the limits; steps are cut at the end.

        Raises:
            DroppedError: no judged step is left, or it is too long to be kept.
            RowError: too long, and ``excess_length_strategy: raise``.
        """
        limit, length = self.rule.sequence_len, len(row.input_ids)
        if self.max_completion_length is not None:
            limit = min(limit, int(np.argmax(row.turns >= 0)) + self.max_completion_length)
        if length > limit:
            self._count_long(length, length, length - limit, tally)
            self._refuse_long("problem and steps", length, "sequence_len (or max_completion_length)", limit, length)
            row = Encoded(row.input_ids[:limit], row.labels[:limit], row.turns[:limit])
        if not (row.labels != IGNORE_INDEX).any():
            raise DroppedError("no_judged_step", len(row.input_ids))
        return row

    def check_alone(self, prompt: Ints) -> None:
        """A prompt that the trainer tokenizes itself cannot be cut: it fits or is left out.

        Raises:
            DroppedError: too long.
            RowError: too long, and ``excess_length_strategy: raise``.
        """
        key = "sequence_len" if self.max_prompt_len is None else "max_prompt_len"
        limit = self.rule.sequence_len if self.max_prompt_len is None else self.max_prompt_len
        if len(prompt) > limit:
            if self.rule.strategy == "raise":
                raise _too_long("the prompt", len(prompt), key, limit)
            raise DroppedError("prompt_too_long", len(prompt))

    def _fit_prompt(self, prompt: Ints, tokens: int, tally: Tally) -> Ints:
        limit = self.max_prompt_len
        if limit is None or len(prompt) <= limit:
            return prompt
        if self.rule.strategy == "raise":
            raise _too_long("the prompt", len(prompt), "max_prompt_len", limit)
        if self.rule.strategy == "drop":
            raise DroppedError("prompt_too_long", tokens)
        tally.dropped_tokens["prompt_cut"] += len(prompt) - limit
        return prompt[-limit:]  # its end: the question, and where the answer begins

    def _refuse_long(self, what: str, length: int, key: str, limit: int, tokens: int) -> None:
        if self.rule.strategy == "raise":
            raise _too_long(what, length, key, limit)
        if self.rule.strategy == "drop":
            raise DroppedError("too_long", tokens)

    def _count_long(self, longest: int, tokens: int, excess: int, tally: Tally) -> None:
        tally.long_rows += 1
        tally.longest_row = max(tally.longest_row, longest)
        tally.long_lengths[power_top(tokens)] += 1
        tally.long_bins[even_top(tokens, self.rule.sequence_len)] += 1
        tally.long_tokens += tokens
        tally.excess_tokens += excess


def _are_equal(answers: Sequence[Ints]) -> bool:
    return len(answers) == 2 and np.array_equal(answers[0], answers[1])


def _too_long(what: str, length: int, key: str, limit: int) -> RowError:
    return RowError(
        f"{what}: {length} tokens are more than {key} {limit}",
        f"excess_length_strategy: drop or truncate, or a larger {key}",
    )
