"""What would only fail on the machines otherwise, looked at here: `ftl launch` does first, and `ftl check` alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ftl_launcher.clouds import Feature, find_cloud
from ftl_launcher.credentials import check_credentials
from ftl_launcher.first_rows import check_model_and_rows
from ftl_launcher.image_inspection import check_image
from ftl_launcher.images import image_of
from ftl_launcher.memory_check import check_memory
from ftl_launcher.plan import ON_THIS_MACHINE, RunPlan
from ftl_launcher.preflight import check_inputs, check_remote_inputs
from ftl_launcher.preflight_storage import check_checkpoint_store
from ftl_launcher.upload import check_upload

if TYPE_CHECKING:
    from ftl_config import LoadedConfig

Check = Callable[["LoadedConfig", RunPlan, Mapping[str, str]], str | None]
"""Config, plan and values of secrets -> what to warn of. Raises FtlError for what would fail."""


def _files(loaded: LoadedConfig, plan: RunPlan, secrets: Mapping[str, str]) -> str | None:
    if plan.backend in ON_THIS_MACHINE:
        check_inputs(loaded, Path(plan.workdir or "."), runs_here=plan.backend == "local")
    else:
        check_remote_inputs(loaded, Path(plan.workdir) if plan.workdir else None)
    return None


def _image(loaded: LoadedConfig, plan: RunPlan, secrets: Mapping[str, str]) -> str | None:
    if plan.backend == "docker" or plan.image is not None:
        check_image(image_of(plan), must_be_here=plan.backend == "docker")
    return None


def _machines(loaded: LoadedConfig, plan: RunPlan, secrets: Mapping[str, str]) -> str | None:
    """Rented machines that nobody ends."""
    clouds = [find_cloud(name) for name in plan.placement.clouds] if plan.backend == "skypilot" else []
    lasting = [cloud.title for cloud in clouds if cloud.is_rented and Feature.AUTODOWN in cloud.refusals]
    return f"machines of {', '.join(lasting)} stay, and cost, until `ftl down {plan.name}`" if lasting else None


def _memory(loaded: LoadedConfig, plan: RunPlan, secrets: Mapping[str, str]) -> str | None:
    check_memory(loaded, plan)
    return None


def _checkpoints(loaded: LoadedConfig, plan: RunPlan, secrets: Mapping[str, str]) -> str | None:
    return check_checkpoints(plan, secrets)


def check_checkpoints(plan: RunPlan, secrets: Mapping[str, str]) -> str | None:
    """Whether checkpoints can be written, where this machine can tell: what to warn of.

    Raises:
        FtlError: they cannot.
    """
    if plan.backend in ON_THIS_MACHINE or "://" in plan.checkpoint_uri:
        return check_checkpoint_store(plan.checkpoint_uri, secrets)
    return None


MODEL_AND_ROWS = "model and rows"
"""The check that a run on this machine makes as soon by itself, before anything costs."""

CHECKS: dict[str, Check] = {
    "credentials": check_credentials,
    "machines": _machines,
    "memory": _memory,
    "files": _files,
    "upload": check_upload,
    "image": _image,
    "checkpoints": _checkpoints,
    MODEL_AND_ROWS: check_model_and_rows,
}
"""In the order of their cost."""
