"""Lambda Cloud."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="lambda",
    infra="lambda",
    title="Lambda",
    credentials=("~/.lambda_cloud/lambda_keys",),
    login="put api_key = <key> into ~/.lambda_cloud/lambda_keys",
    refusals=refuse(Feature.SPOT, Feature.AUTOSTOP, Feature.AMD, Feature.DISK_TIER, Feature.NETWORK_TIER),
    # No variables: single machines are joined by Ethernet, and NCCL finds it.
)
