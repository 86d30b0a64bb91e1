"""Microsoft Azure."""

from ftl_launcher.accelerators import Vendor
from ftl_launcher.clouds.facts import Cloud, Feature

_SOCKETS = {"NCCL_SOCKET_IFNAME": "^lo,docker"}

CLOUD = Cloud(
    name="azure",
    infra="azure",
    title="Azure",
    storage_schemes=("abfs", "s3"),
    refusals={Feature.NETWORK_TIER: "SkyPilot cannot set a network tier on Azure; leave launch.network_tier out"},
    multi_node_env={Vendor.NVIDIA: _SOCKETS, Vendor.AMD: _SOCKETS},
)
