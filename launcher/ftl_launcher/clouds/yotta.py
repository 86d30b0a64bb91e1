"""Yotta Labs."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="yotta",
    infra="yotta",
    title="Yotta",
    credentials=("~/.yotta/credentials",),
    login="put the API key at ~/.yotta/credentials",
    refusals=refuse(
        Feature.SPOT,
        Feature.MULTI_NODE,
        Feature.AUTOSTOP,
        Feature.AUTODOWN,
        Feature.DISK_TIER,
        Feature.NETWORK_TIER,
        Feature.STORAGE_MOUNT,
    ),
    is_container=True,
)
