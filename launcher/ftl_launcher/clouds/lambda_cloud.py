"""Lambda Cloud."""

from ftl_launcher.clouds.facts import Cloud, Feature

CLOUD = Cloud(
    name="lambda",
    infra="lambda",
    title="Lambda",
    credentials=("~/.lambda_cloud/lambda_keys",),
    login="put api_key = <key> into ~/.lambda_cloud/lambda_keys",
    refusals={
        Feature.SPOT: "Lambda rents no spot machines; leave launch.spot out or take aws, gcp, azure or runpod",
        Feature.AMD: "Lambda rents no AMD accelerators; runpod, azure and oci do",
        Feature.DISK_TIER: "Lambda has one kind of disk; leave launch.disk_tier out",
        Feature.NETWORK_TIER: "Lambda has one kind of network; leave launch.network_tier out",
    },
    # No variables: single machines are joined by Ethernet, and NCCL finds it.
)
