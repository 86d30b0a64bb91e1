"""Paperspace."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="paperspace",
    infra="paperspace",
    title="Paperspace",
    credentials=("~/.paperspace/config.json",),
    login='put {"apiKey": "<key>"} into ~/.paperspace/config.json',
    refusals=refuse(Feature.SPOT, Feature.DISK_TIER, Feature.NETWORK_TIER),
)
