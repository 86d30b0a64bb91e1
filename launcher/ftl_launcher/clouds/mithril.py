"""Mithril."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="mithril",
    infra="mithril",
    title="Mithril",
    credentials=("MITHRIL_API_KEY", "~/.config/mithril/config.yaml"),
    login="export MITHRIL_API_KEY and MITHRIL_PROJECT",
    refusals=refuse(Feature.DISK_TIER, Feature.NETWORK_TIER, Feature.PORTS),
)
