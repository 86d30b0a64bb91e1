"""Google Cloud."""

from ftl_launcher.accelerators import Vendor
from ftl_launcher.clouds.facts import Cloud, Feature

CLOUD = Cloud(
    name="gcp",
    infra="gcp",
    title="Google Cloud",
    storage_schemes=("gs", "s3"),
    refusals={Feature.AMD: "Google Cloud rents no AMD accelerators; runpod, azure and oci do"},
    multi_node_env={Vendor.NVIDIA: {"NCCL_SOCKET_IFNAME": "^lo,docker"}},
)
