"""Oracle Cloud Infrastructure."""

from ftl_launcher.accelerators import Vendor
from ftl_launcher.clouds.facts import Cloud, Feature, refuse

# RoCE of the bare-metal shapes, as Oracle's own manifests set it: the address index and traffic class of its lossless
# network. NCCL meets over the other interface; rdma0... carry data only.
_ROCE = {
    "NCCL_IB_GID_INDEX": "3",
    "NCCL_IB_TC": "41",
    "NCCL_IB_SL": "0",
    "NCCL_IB_TIMEOUT": "22",
    "NCCL_IB_QPS_PER_CONNECTION": "4",
    "NCCL_IB_SPLIT_DATA_ON_QPS": "0",
    "NCCL_SOCKET_IFNAME": "^lo,docker,rdma",
}

CLOUD = Cloud(
    name="oci",
    infra="oci",
    title="Oracle Cloud",
    credentials=("OCI_CONFIG", "~/.oci/config"),
    login="oci setup config",
    # Network tiers are not in its table: it passes over them.
    refusals=refuse(Feature.IMAGE, Feature.NETWORK_TIER, Feature.ULTRA_DISK),
    multi_node_env={Vendor.NVIDIA: {**_ROCE, "NCCL_IB_HCA": "mlx5"}, Vendor.AMD: _ROCE},
)
