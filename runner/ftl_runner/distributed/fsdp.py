"""FSDP: the ``fsdp*`` keys as the arguments of transformers' Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftl_config import Config


def fsdp_arguments(config: Config) -> dict[str, Any]:
    """``fsdp`` and ``fsdp_config`` for ``TrainingArguments``; empty where FSDP is not asked for."""
    keys = config.distributed
    if keys.fsdp is None and keys.fsdp_config is None:
        return {}
    raw = keys.fsdp_config
    settings: dict[str, Any] = dict(raw) if isinstance(raw, dict) else raw.model_dump(exclude_none=True) if raw else {}
    settings = {name.removeprefix("fsdp_"): value for name, value in settings.items()}
    settings["version"] = keys.fsdp_version or settings.pop("version", None) or 2
    return {
        "fsdp": True if keys.fsdp is None else list(keys.fsdp) if not isinstance(keys.fsdp, str) else keys.fsdp,
        "fsdp_config": settings,
    }
