"""RunPod."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="runpod",
    infra="runpod",
    title="RunPod",
    credentials=("~/.runpod/config.toml",),
    login="runpod config",
    refusals=refuse(
        Feature.MULTI_NODE, Feature.AUTOSTOP, Feature.DISK_TIER, Feature.NETWORK_TIER, Feature.STORAGE_MOUNT
    ),
    is_container=True,
)
