"""Whether a cloud's credentials are on this machine: by looking for them, without asking the cloud or SkyPilot."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ftl_launcher.clouds import CLOUDS, Cloud, find_cloud
from ftl_launcher.plan import RunPlan

if TYPE_CHECKING:
    from ftl_config import LoadedConfig

REMOTE_API_SERVER = "SKYPILOT_API_SERVER_ENDPOINT"
"""With SkyPilot's API server elsewhere the credentials are there too."""


def found_credential(cloud: Cloud) -> str | None:
    """The variable or file of a cloud's credentials that is here; None without one."""
    for place in cloud.credentials:
        if Path(place).expanduser().is_file() if place.startswith("~") else os.environ.get(place):
            return place
    return None


def clouds_with_credentials() -> dict[str, str]:
    """Name of each cloud that has credentials here -> where they are."""
    found = {name: found_credential(find_cloud(name)) for name in CLOUDS}
    return {name: place for name, place in found.items() if place}


def check_credentials(loaded: LoadedConfig, plan: RunPlan, secrets: Mapping[str, str]) -> str | None:
    """A warning where none of a plan's clouds has any. No error: a machine's own role, say, leaves nothing here."""
    if plan.backend != "skypilot" or os.environ.get(REMOTE_API_SERVER):
        return None
    clouds = [find_cloud(name) for name in plan.placement.clouds]
    lacking = [cloud for cloud in clouds if cloud.credentials and not found_credential(cloud)]
    if not lacking or len(lacking) < len(clouds):
        return None
    return "; ".join(f"no credentials for {cloud.title} here (to set them up: {cloud.login})" for cloud in lacking)
