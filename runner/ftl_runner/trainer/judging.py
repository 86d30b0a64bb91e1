"""The user's reward functions, called so that what goes wrong in them is said with the function and the answer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftl_config.errors import FtlError
from ftl_runner.failures import first_line

_SHOWN = 200
"""Characters of an answer that an error shows."""


def guarded(path: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its results checked; ``path`` is its name in ``trl.reward_funcs``.

    What is returned raises FtlError where the function raises, or does not return one number or None an answer.
    """
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004

        @functools.wraps(function)
        async def judge_async(**columns: Any) -> Any:
            try:
                rewards = await function(**columns)
            except Exception as error:
                raise _failed(path, error, columns["completions"][0]) from error
            return _checked(path, rewards, columns["completions"])

        return judge_async

    @functools.wraps(function)
    def judge(**columns: Any) -> Any:
        try:
            rewards = function(**columns)
        except Exception as error:
            raise _failed(path, error, _culprit(function, columns)) from error
        return _checked(path, rewards, columns["completions"])

    return judge


def _culprit(function: Callable[..., Any], columns: Mapping[str, Any]) -> Any:
    """The first answer that the function fails on by itself, or the first of all."""
    count = len(columns["completions"])
    for at in range(count):
        one = {
            name: value[at : at + 1] if isinstance(value, list) and len(value) == count else value
            for name, value in columns.items()
        }
        try:
            function(**one)
        except Exception:  # the one that is looked for
            return columns["completions"][at]
    return columns["completions"][0]


def _failed(path: str, error: Exception, completion: Any) -> FtlError:
    message = f"trl.reward_funcs: {path} failed: {type(error).__name__}: {error}"
    return FtlError(message, f"the answer that it was to judge: {_shown(completion)}", 2)


def _checked(path: str, rewards: Any, completions: Sequence[Any]) -> list[float | None]:
    hint = "return a list with one number, or None, for each completion"
    try:
        values = list(rewards)
    except TypeError as error:
        raise FtlError(f"trl.reward_funcs: {path} returned {type(rewards).__name__}", hint, 2) from error
    if len(values) != len(completions):
        message = f"trl.reward_funcs: {path} returned {len(values)} rewards for {len(completions)} completions"
        raise FtlError(message, hint, 2)
    return [_number(path, value, completion) for value, completion in zip(values, completions, strict=True)]


def _number(path: str, value: Any, completion: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError) as error:
        message = f"trl.reward_funcs: {path} returned {value!r}, which is no number"
        raise FtlError(message, f"for the completion: {_shown(completion)}", 2) from error


def _shown(completion: Any) -> str:
    """An answer's text, shortened."""
    text = completion
    if isinstance(completion, list):
        text = " ".join(str(message.get("content", "")) for message in completion)
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def load_judge(name: str, *, trust_remote_code: bool) -> Any:
    """A reward model as a judge; ``name`` is a folder or a name on the hub.

    Raises:
        FtlError: there is none.
    """
    from transformers import AutoModelForSequenceClassification

    try:
        return AutoModelForSequenceClassification.from_pretrained(
            name, num_labels=1, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        message = f"trl.reward_funcs: cannot load the reward model {name!r}: {first_line(error)}"
        raise FtlError(message, "name its folder or hub name, or a function as module.function", 2) from error
