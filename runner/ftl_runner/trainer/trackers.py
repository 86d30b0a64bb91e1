"""Experiment trackers: which ones the configuration asks for, and the environment they read."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError

if TYPE_CHECKING:
    from ftl_config import Config

_WANDB_ENV = {
    "wandb_project": "WANDB_PROJECT",
    "wandb_entity": "WANDB_ENTITY",
    "wandb_name": "WANDB_NAME",
    "wandb_run_id": "WANDB_RUN_ID",
    "wandb_mode": "WANDB_MODE",
    "wandb_watch": "WANDB_WATCH",
    "wandb_log_model": "WANDB_LOG_MODEL",
}
_MLFLOW_ENV = {
    "mlflow_tracking_uri": "MLFLOW_TRACKING_URI",
    "mlflow_experiment_name": "MLFLOW_EXPERIMENT_NAME",
    "hf_mlflow_log_artifacts": "HF_MLFLOW_LOG_ARTIFACTS",
}
_COMET_ENV = {
    "comet_project_name": "COMET_PROJECT_NAME",
    "comet_workspace": "COMET_WORKSPACE",
    "comet_mode": "COMET_START_MODE",
    "comet_online": "COMET_START_ONLINE",
    "comet_experiment_key": "COMET_EXPERIMENT_KEY",
}
# tracker -> (key that switches it on, keys that imply it, packages that do, environment it reads)
_TRACKERS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], dict[str, str]]] = {
    "wandb": ("use_wandb", ("wandb_project",), ("wandb",), _WANDB_ENV),
    "mlflow": ("use_mlflow", ("mlflow_experiment_name",), ("mlflow",), _MLFLOW_ENV),
    "comet_ml": ("use_comet", ("comet_project_name",), ("comet_ml",), _COMET_ENV),
    "tensorboard": ("use_tensorboard", (), ("tensorboard", "tensorboardX"), {}),
}


def tracker_arguments(config: Config) -> dict[str, Any]:
    """``report_to`` and ``run_name`` for ``TrainingArguments``; exports what each tracker reads from the environment.

    Raises:
        FtlError: a tracker is asked for and its package is not installed.
    """
    keys = config.logging
    wanted = []
    for name, (switch, implied, packages, variables) in _TRACKERS.items():
        enabled = getattr(keys, switch, None)
        if enabled is None:
            enabled = any(getattr(keys, key, None) for key in implied)
        if not enabled:
            continue
        if all(importlib.util.find_spec(package) is None for package in packages):
            message = f"{switch} is on, but the package {packages[0]} is not installed"
            raise FtlError(message, f"pip install {packages[0]}", exit_code=2)
        for key, variable in variables.items():
            value = getattr(keys, key, None)
            if value not in (None, ""):
                os.environ.setdefault(variable, str(value).lower() if isinstance(value, bool) else str(value))
        wanted.append(name)
    # The Trainer has one name for all trackers; wandb reads its own from the environment too.
    return {"report_to": wanted or "none", "run_name": keys.wandb_name or keys.mlflow_run_name}
