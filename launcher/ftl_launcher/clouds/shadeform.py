"""Shadeform."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="shadeform",
    infra="shadeform",
    title="Shadeform",
    credentials=("~/.shadeform/api_key",),
    login="put the API key at ~/.shadeform/api_key",
    refusals=refuse(
        Feature.SPOT,
        Feature.IMAGE,
        Feature.MULTI_NODE,
        Feature.AUTOSTOP,
        Feature.DISK_TIER,
        Feature.NETWORK_TIER,
        Feature.STORAGE_MOUNT,
    ),
)
