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
    AUTOSTOP = "machines that stop when idle"
    AUTODOWN = "machines that end by themselves"
    AMD = "AMD accelerators"
    DISK_TIER = "disk tier"
    ULTRA_DISK = "disk tier ultra"
    NETWORK_TIER = "network tier"
    NETWORK_OF_PART = "network tier for a part of a machine"
    PORTS = "open ports"
    STORAGE_MOUNT = "mounted buckets"


_REASONS = {
    Feature.SPOT: "SkyPilot rents no spot machines there; leave launch.spot out, or take aws, azure, gcp or nebius",
    Feature.IMAGE: "SkyPilot runs no container images there; leave launch.image out, and the nodes install the runner",
    Feature.MULTI_NODE: "SkyPilot starts single machines there; take one node with more accelerators",
    Feature.AUTOSTOP: "SkyPilot can only delete machines there; leave launch.autodown: false out",
    Feature.AUTODOWN: "a managed job and autostop need it; set launch.managed: false, leave launch.autostop_minutes "
    "out, and `ftl down` the run once it has ended: until then its machines cost",
    Feature.AMD: "none are rented there; azure, oci and runpod do",
    Feature.DISK_TIER: "there is one kind of disk; leave launch.disk_tier out",
    Feature.ULTRA_DISK: "high is the fastest disk there; write high, or best",
    Feature.NETWORK_TIER: "SkyPilot cannot choose the network there; leave launch.network_tier out",
    Feature.NETWORK_OF_PART: "only machines with 8 accelerators are on the fast network; leave launch.network_tier out",
    Feature.PORTS: "SkyPilot opens none there; leave launch.ports out",
    Feature.STORAGE_MOUNT: "a bucket is copied to the nodes where file_mounts gives its URL alone; "
    "checkpoints in s3:// need no mount",
}


def refuse(*features: Feature) -> dict[Feature, str]:
    """Each with the reason that is true of most clouds without it."""
    return {feature: _REASONS[feature] for feature in features}


@dataclass(frozen=True)
class Cloud:
    """Facts of one cloud. Refusals follow SkyPilot's own tables: tests/unit/launcher/test_clouds.py compares them."""

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
