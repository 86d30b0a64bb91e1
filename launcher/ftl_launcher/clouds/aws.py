"""Amazon Web Services."""

from ftl_launcher.accelerators import Vendor
from ftl_launcher.clouds.facts import Cloud, Feature

CLOUD = Cloud(
    name="aws",
    infra="aws",
    title="AWS",
    refusals={Feature.AMD: "AWS rents no AMD accelerators; runpod, azure and oci do"},
    # EFA where the instance has it; libfabric falls back to TCP elsewhere.
    multi_node_env={
        Vendor.NVIDIA: {"FI_PROVIDER": "efa", "FI_EFA_USE_DEVICE_RDMA": "1", "NCCL_SOCKET_IFNAME": "^lo,docker"}
    },
)
