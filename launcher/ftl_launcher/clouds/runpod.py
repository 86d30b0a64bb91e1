"""RunPod."""

from ftl_launcher.clouds.facts import Cloud, Feature

CLOUD = Cloud(
    name="runpod",
    infra="runpod",
    title="RunPod",
    credentials=("~/.runpod/config.toml",),
    login="runpod config",
    refusals={
        Feature.MULTI_NODE: "SkyPilot starts single machines on RunPod; take one node with more accelerators",
        Feature.DISK_TIER: "RunPod has one kind of disk; leave launch.disk_tier out",
        Feature.NETWORK_TIER: "RunPod has one kind of network; leave launch.network_tier out",
        Feature.STORAGE_MOUNT: "RunPod cannot mount buckets; use an s3:// checkpoint, which needs no mount",
    },
    is_container=True,
)
