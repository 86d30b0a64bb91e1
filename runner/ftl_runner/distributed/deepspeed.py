"""DeepSpeed: the JSON of the ``deepspeed`` key, made ready for this run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.assets import asset_path
from ftl_config.deepspeed import SHIPPED_NAMES, shipped_name
from ftl_config.errors import FtlError

if TYPE_CHECKING:
    from ftl_config import Config


class DeepSpeedConfigError(FtlError):
    """The ``deepspeed`` key names no readable configuration."""


def deepspeed_config(config: Config, *, use_cpu: bool) -> dict[str, Any] | None:
    """DeepSpeed's configuration as a dict, or None. ``auto`` values are left for transformers to fill.

    A path is tried as written; a bare name such as ``zero2.json`` or ``deepspeed_configs/zero2.json`` falls back
    to the files that ship with ftl.

    Raises:
        DeepSpeedConfigError: no such file, or not a JSON object.
    """
    value = config.distributed.deepspeed
    if value is None:
        return None
    settings = dict(value) if isinstance(value, dict) else _read(value)
    settings.setdefault("gradient_clipping", "auto")  # max_grad_norm, where the file leaves it out
    if use_cpu:
        # Kept whole across CPU and GPU runs of one file: these two have no CPU implementation.
        fp16 = settings.get("fp16")
        if isinstance(fp16, dict):
            settings["fp16"] = {**fp16, "enabled": False}
    return settings


def _read(name: str) -> dict[str, Any]:
    path = Path(name)
    if not path.is_file():
        shipped = shipped_name(name)
        if shipped is None:
            raise DeepSpeedConfigError(
                f"deepspeed: no such file: {name}", f"a path, or one of ours: {', '.join(SHIPPED_NAMES)}", exit_code=2
            )
        path = asset_path(f"templates/deepspeed/{shipped}")
    try:
        settings = json.loads(path.read_text())
    except ValueError as error:
        raise DeepSpeedConfigError(f"deepspeed: {path} is not JSON: {error}", exit_code=2) from error
    if not isinstance(settings, dict):
        raise DeepSpeedConfigError(f"deepspeed: {path} must hold a JSON object", exit_code=2)
    return settings
