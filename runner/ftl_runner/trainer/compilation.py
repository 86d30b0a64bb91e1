"""``torch.compile``: the ``torch_compile*`` keys as arguments of transformers' Trainer."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from ftl_runner.distributed.deepspeed import wants_compile

if TYPE_CHECKING:
    from ftl_config import Config


def compile_arguments(config: Config, *, use_cpu: bool) -> dict[str, Any]:
    """Arguments for ``TrainingArguments``, empty without compilation; ``auto`` compiles on a GPU.

    ``zero1_torch_compile.json`` and its like ask for it too.

    ``torch_compile_options`` are flags of the compiler's module and are set there, for this process.
    """
    keys = config.training
    by_deepspeed = wants_compile(config)
    enabled = not use_cpu if keys.torch_compile == "auto" else bool(keys.torch_compile)
    if not (enabled or by_deepspeed):
        return {}
    if keys.torch_compile_options:
        _set_flags(keys.torch_compile_options)
    return {
        "torch_compile": True,
        "torch_compile_backend": keys.torch_compile_backend or by_deepspeed,
        "torch_compile_mode": keys.torch_compile_mode,
    }


def _set_flags(flags: dict[str, Any]) -> None:
    import torch._inductor.config as inductor

    for name, value in flags.items():
        group, _, flag = name.rpartition(".")
        setattr(operator.attrgetter(group)(inductor) if group else inductor, flag, value)
