"""Amazon Web Services."""

from ftl_launcher.accelerators import Vendor
from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="aws",
    infra="aws",
    title="AWS",
    credentials=("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "~/.aws/credentials", "~/.aws/config"),
    login="aws configure",
    refusals=refuse(Feature.AMD),
    # EFA where the instance has it; NCCL takes TCP elsewhere. Huge pages run out when processes that read data fork.
    # Not FI_EFA_USE_DEVICE_RDMA: it is on where the adapter can, and set it aborts where it cannot (g5).
    multi_node_env={Vendor.NVIDIA: {"FI_PROVIDER": "efa", "FI_EFA_USE_HUGE_PAGE": "0"}},
)
