"""Microsoft Azure."""

from ftl_launcher.accelerators import Vendor
from ftl_launcher.clouds.facts import Cloud, Feature, refuse

# Accelerated networking shows its Ethernet adapter (mlx5_an0) among those for InfiniBand (mlx5_ib0...), whose own IP
# interfaces (ib0...) NCCL would prefer for meeting, though they reach fewer machines than eth0.
_INFINIBAND = {"NCCL_IB_HCA": "^mlx5_an", "NCCL_SOCKET_IFNAME": "eth0"}

CLOUD = Cloud(
    name="azure",
    infra="azure",
    title="Azure",
    credentials=("AZURE_CLIENT_ID", "~/.azure/msal_token_cache.json"),
    login="az login",
    storage_schemes=("abfs", "s3"),
    refusals=refuse(Feature.NETWORK_TIER, Feature.ULTRA_DISK),
    multi_node_env={Vendor.NVIDIA: _INFINIBAND, Vendor.AMD: _INFINIBAND},
)
