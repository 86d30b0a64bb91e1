"""IBM Cloud."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="ibm",
    infra="ibm",
    title="IBM Cloud",
    credentials=("~/.ibm/credentials.yaml",),
    login="put iam_api_key and resource_group_id into ~/.ibm/credentials.yaml",
    # Spot and network tiers are not in its table: it offers no machine for the one and passes over the other.
    refusals=refuse(Feature.SPOT, Feature.IMAGE, Feature.DISK_TIER, Feature.NETWORK_TIER, Feature.PORTS),
)
