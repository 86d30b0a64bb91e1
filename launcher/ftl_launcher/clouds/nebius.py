"""Nebius AI Cloud."""

from ftl_launcher.accelerators import Vendor
from ftl_launcher.clouds.facts import Cloud, Feature

CLOUD = Cloud(
    name="nebius",
    infra="nebius",
    title="Nebius",
    refusals={Feature.AMD: "Nebius rents no AMD accelerators; runpod, azure and oci do"},
    multi_node_env={Vendor.NVIDIA: {"NCCL_SOCKET_IFNAME": "^lo,docker"}},
)
