"""Nebius AI Cloud."""

from ftl_launcher.accelerators import Vendor
from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="nebius",
    infra="nebius",
    title="Nebius",
    credentials=("~/.nebius/credentials.json", "~/.nebius/NEBIUS_IAM_TOKEN.txt"),
    login="put the service account's key at ~/.nebius/credentials.json",
    refusals=refuse(Feature.AMD, Feature.ULTRA_DISK, Feature.NETWORK_OF_PART),
    # As SkyPilot sets it with network_tier: best; without InfiniBand it names nothing, and NCCL takes TCP.
    multi_node_env={Vendor.NVIDIA: {"NCCL_IB_HCA": "mlx5"}},
)
