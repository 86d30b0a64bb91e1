"""Verda, which was DataCrunch."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="verda",
    infra="verda",
    title="Verda",
    credentials=("VERDA_CLIENT_ID", "DATACRUNCH_CLIENT_ID", "~/.verda/config.json"),
    login="put client_id and client_secret into ~/.verda/config.json",
    # Spot is in its table, but only a managed job is recovered, and there can be none.
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
