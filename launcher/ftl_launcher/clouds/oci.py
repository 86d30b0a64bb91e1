"""Oracle Cloud Infrastructure."""

from ftl_launcher.accelerators import Vendor
from ftl_launcher.clouds.facts import Cloud, Feature

_SOCKETS = {"NCCL_SOCKET_IFNAME": "^lo,docker"}

CLOUD = Cloud(
    name="oci",
    infra="oci",
    title="Oracle Cloud",
    refusals={
        Feature.IMAGE: "SkyPilot runs no container images on Oracle Cloud; leave launch.image out",
        Feature.NETWORK_TIER: "SkyPilot cannot set a network tier on Oracle Cloud; leave launch.network_tier out",
    },
    multi_node_env={Vendor.NVIDIA: _SOCKETS, Vendor.AMD: _SOCKETS},
)
