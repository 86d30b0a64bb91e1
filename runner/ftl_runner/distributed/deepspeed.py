"""DeepSpeed: the JSON of the ``deepspeed`` key, made ready for this run."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.assets import asset_path
from ftl_config.deepspeed import missing_hint, shipped_name
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
    settings = copy.deepcopy(value) if isinstance(value, dict) else _read(value)
    settings.setdefault("gradient_clipping", "auto")  # max_grad_norm, where the file leaves it out
    zero = settings.get("zero_optimization")
    if isinstance(zero, dict) and zero.get("stage") == 3:
        zero.setdefault("stage3_gather_16bit_weights_on_model_save", True)  # else no model could be saved
    _drop_old_compile_words(settings)
    if use_cpu:
        _fit_to_cpu(settings)
    return settings


def join_deepspeed() -> None:
    """Let DeepSpeed know the process group before the model is loaded, which ZeRO-3 shards as it is read.

    transformers does it for GPUs only. A single process is given a group of its own: DeepSpeed works in no other way.
    """
    import deepspeed
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
            os.environ.setdefault(name, value)
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    deepspeed.init_distributed(auto_mpi_discovery=False)


def wants_compile(config: Config) -> str | None:
    """The ``torch.compile`` backend that the settings ask for in words that DeepSpeed itself no longer takes."""
    value = config.distributed.deepspeed
    if value is None:
        return None
    asked = (value if isinstance(value, dict) else _read(value)).get("compile")
    if not isinstance(asked, dict) or asked.get("disable", True):
        return None
    return str(asked.get("backend", "inductor"))


def _drop_old_compile_words(settings: dict[str, Any]) -> None:
    """``{disable, backend}``: DeepSpeed refuses them by now, and the Trainer compiles in their place."""
    block = settings.get("compile")
    if isinstance(block, dict):
        settings["compile"] = {name: value for name, value in block.items() if name not in ("disable", "backend")}


def _fit_to_cpu(settings: dict[str, Any]) -> None:
    """A file is kept whole across CPU and GPU runs: fp16 has no CPU implementation, and bf16 is as the config says."""
    fp16, bf16 = settings.get("fp16"), settings.get("bf16")
    if isinstance(fp16, dict):
        settings["fp16"] = {**fp16, "enabled": False}
    if isinstance(bf16, dict):
        settings["bf16"] = {**bf16, "enabled": "auto"}


def _read(name: str) -> dict[str, Any]:
    path = Path(name)
    if not path.is_file():
        shipped = shipped_name(name)
        if shipped is None:
            raise DeepSpeedConfigError(f"deepspeed: no such file: {name}", missing_hint(name), exit_code=2)
        path = asset_path(f"templates/deepspeed/{shipped}")
    try:
        settings = json.loads(path.read_text())
    except ValueError as error:
        raise DeepSpeedConfigError(f"deepspeed: {path} is not JSON: {error}", exit_code=2) from error
    if not isinstance(settings, dict):
        raise DeepSpeedConfigError(f"deepspeed: {path} must hold a JSON object", exit_code=2)
    return settings
