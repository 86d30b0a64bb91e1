"""Hyperbolic."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="hyperbolic",
    infra="hyperbolic",
    title="Hyperbolic",
    credentials=("~/.hyperbolic/api_key",),
    login="put the API key at ~/.hyperbolic/api_key",
    refusals=refuse(
        Feature.SPOT,
        Feature.IMAGE,
        Feature.MULTI_NODE,
        Feature.AUTOSTOP,
        Feature.AUTODOWN,
        Feature.DISK_TIER,
        Feature.NETWORK_TIER,
        Feature.PORTS,
        Feature.STORAGE_MOUNT,
    ),
)
