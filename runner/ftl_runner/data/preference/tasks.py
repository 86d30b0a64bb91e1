"""How prompts of messages are written, for a trainer that writes them itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftl_runner.data.convert import LengthRule, RowConverter
from ftl_runner.data.errors import DataError

if TYPE_CHECKING:
    from ftl_config import Config


def task_template(config: Config, tokenizer: Any) -> tuple[str, dict[str, Any]]:
    """The chat template that the prompts were prepared with, and the variables that the config gives it.

    Raises:
        DataError: datasets have different ones, and the trainer can use one; or there is none.
    """
    data, found = config.data, list[tuple[str, dict[str, Any]]]()
    for spec in data.datasets or ():
        spec = spec.model_copy(update={"type": "chat_template"})
        renderer = RowConverter(spec, data, tokenizer, LengthRule(data.sequence_len)).turn_renderer()
        kwargs = {**(data.chat_template_kwargs or {}), **(spec.chat_template_kwargs or {})}
        found.append((renderer.template.source, kwargs))
    if any(other != found[0] for other in found):
        raise DataError(
            "the datasets are written with different chat templates, and answers are asked for with one",
            "set chat_template and chat_template_kwargs for all of them at the top of the config",
        )
    return found[0]
