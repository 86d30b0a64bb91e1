"""Small facts about each place SkyPilot can rent machines: one file a cloud, one line here."""

from __future__ import annotations

import importlib

from ftl_config.errors import FtlError
from ftl_launcher.clouds.facts import Cloud, Feature
from ftl_launcher.suggestions import suggest

__all__ = ["CLOUDS", "Cloud", "Feature", "find_cloud"]

CLOUDS: dict[str, str] = {
    "aws": "ftl_launcher.clouds.aws",
    "azure": "ftl_launcher.clouds.azure",
    "gcp": "ftl_launcher.clouds.gcp",
    "kubernetes": "ftl_launcher.clouds.kubernetes",
    "lambda": "ftl_launcher.clouds.lambda_cloud",
    "nebius": "ftl_launcher.clouds.nebius",
    "oci": "ftl_launcher.clouds.oci",
    "runpod": "ftl_launcher.clouds.runpod",
    "slurm": "ftl_launcher.clouds.slurm",
    "ssh": "ftl_launcher.clouds.ssh",
}
ALIASES = {"k8s": "kubernetes", "lambdalabs": "lambda", "amazon": "aws", "google": "gcp"}


def find_cloud(name: str) -> Cloud:
    """The facts of a cloud by the name that users write.

    Raises:
        FtlError: no such cloud; the hint names a close match or all of them.
    """
    key = ALIASES.get(name.lower(), name.lower())
    if key not in CLOUDS:
        hint = suggest(key, CLOUDS, besides=", and local, docker, podman")
        raise FtlError(f"unknown cloud {name!r}", hint=hint, exit_code=2)
    facts: Cloud = importlib.import_module(CLOUDS[key]).CLOUD
    return facts
