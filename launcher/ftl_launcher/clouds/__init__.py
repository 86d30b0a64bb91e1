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
    "cudo": "ftl_launcher.clouds.cudo",
    "do": "ftl_launcher.clouds.do",
    "fluidstack": "ftl_launcher.clouds.fluidstack",
    "gcp": "ftl_launcher.clouds.gcp",
    "hyperbolic": "ftl_launcher.clouds.hyperbolic",
    "ibm": "ftl_launcher.clouds.ibm",
    "kubernetes": "ftl_launcher.clouds.kubernetes",
    "lambda": "ftl_launcher.clouds.lambda_cloud",
    "mithril": "ftl_launcher.clouds.mithril",
    "nebius": "ftl_launcher.clouds.nebius",
    "oci": "ftl_launcher.clouds.oci",
    "paperspace": "ftl_launcher.clouds.paperspace",
    "primeintellect": "ftl_launcher.clouds.primeintellect",
    "runpod": "ftl_launcher.clouds.runpod",
    "scp": "ftl_launcher.clouds.scp",
    "seeweb": "ftl_launcher.clouds.seeweb",
    "shadeform": "ftl_launcher.clouds.shadeform",
    "slurm": "ftl_launcher.clouds.slurm",
    "ssh": "ftl_launcher.clouds.ssh",
    "vast": "ftl_launcher.clouds.vast",
    "verda": "ftl_launcher.clouds.verda",
    "vsphere": "ftl_launcher.clouds.vsphere",
    "yotta": "ftl_launcher.clouds.yotta",
}
ALIASES = {"k8s": "kubernetes", "lambdalabs": "lambda", "amazon": "aws", "google": "gcp"}
_SKYPILOTS_NAMES = {"datacrunch": "verda", "digitalocean": "do", "vastai": "vast"}
"""Names that other launchers use; dstack for one, so they are no aliases everywhere."""


def find_cloud(name: str) -> Cloud:
    """The facts of a cloud by the name that users write.

    Raises:
        FtlError: no such cloud; the hint names a close match or all of them.
    """
    key = (ALIASES | _SKYPILOTS_NAMES).get(name.lower(), name.lower())
    if key not in CLOUDS:
        hint = suggest(key, CLOUDS, besides=", and local, docker, podman")
        raise FtlError(f"unknown cloud {name!r}", hint=hint, exit_code=2)
    facts: Cloud = importlib.import_module(CLOUDS[key]).CLOUD
    return facts
