"""Seeweb."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="seeweb",
    infra="seeweb",
    title="Seeweb",
    credentials=("~/.seeweb_cloud/seeweb_keys",),
    login="put api_key = <key> under [DEFAULT] into ~/.seeweb_cloud/seeweb_keys",
    refusals=refuse(Feature.SPOT, Feature.MULTI_NODE, Feature.DISK_TIER, Feature.NETWORK_TIER, Feature.STORAGE_MOUNT),
)
