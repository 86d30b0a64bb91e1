"""What the launcher knows of a cloud before asking anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ftl_launcher.accelerators import Vendor


class Feature(StrEnum):
    """What a plan may ask of a cloud."""

    SPOT = "spot"
    IMAGE = "image"
    MULTI_NODE = "more than one node"
    AUTOSTOP = "autostop"
    AMD = "AMD accelerators"
    DISK_TIER = "disk tier"
    NETWORK_TIER = "network tier"
    STORAGE_MOUNT = "mounted buckets"
    REGION = "region"


@dataclass(frozen=True)
class Cloud:
    """Facts of one cloud. Refusals were read from SkyPilot 0.14.1's own tables of unsupported features."""

    name: str
    infra: str
    """SkyPilot's name for it in ``resources.infra``."""
    title: str
    credentials: tuple[str, ...] = ()
    """Environment variables and files where SkyPilot finds its credentials; one that is there will do."""
    login: str = ""
    """What puts them there."""
    storage_schemes: tuple[str, ...] = ("s3",)
    refusals: Mapping[Feature, str] = field(default_factory=dict)
    """Feature -> the reason it is not there and what to do instead."""
    multi_node_env: Mapping[Vendor, Mapping[str, str]] = field(default_factory=dict)
    """Interconnect settings for runs over several nodes, by accelerator vendor.

    Only what NCCL and RCCL do not find out by themselves. They leave lo and docker interfaces out anyway; naming
    interfaces here would undo what SkyPilot sets for a cloud's fabric (``network_tier: best``).
    """
    multi_node_config: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Settings of SkyPilot's for runs over several nodes (a task's ``config:`` key)."""
    is_rented: bool = True
    """Its machines cost money by the hour; false for clusters of the user's own."""
    is_container: bool = False
    """Nodes are containers already: docker run options do not apply."""
