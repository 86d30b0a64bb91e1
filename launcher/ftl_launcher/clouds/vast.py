"""Vast.ai."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="vast",
    infra="vast",
    title="Vast.ai",
    credentials=("~/.config/vastai/vast_api_key",),
    login="put the API key at ~/.config/vastai/vast_api_key",
    refusals=refuse(Feature.MULTI_NODE, Feature.DISK_TIER, Feature.NETWORK_TIER, Feature.STORAGE_MOUNT),
    is_container=True,
)
