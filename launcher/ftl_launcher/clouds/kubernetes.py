"""A Kubernetes cluster of the user's own."""

from ftl_launcher.accelerators import Vendor
from ftl_launcher.clouds.facts import Cloud, Feature

_SOCKETS = {"NCCL_SOCKET_IFNAME": "^lo,docker"}

CLOUD = Cloud(
    name="kubernetes",
    infra="kubernetes",
    title="Kubernetes",
    refusals={
        Feature.SPOT: "Kubernetes has no spot machines of its own; leave launch.spot out "
        "(a spot node pool is chosen by the cluster's labels)",
        Feature.DISK_TIER: "Kubernetes has no disk tiers; leave launch.disk_tier out",
        Feature.AUTOSTOP: "pods cannot stop; they end with the run",
    },
    multi_node_env={Vendor.NVIDIA: _SOCKETS, Vendor.AMD: _SOCKETS},
    is_container=True,
    is_rented=False,
)
