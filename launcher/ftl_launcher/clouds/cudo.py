"""Cudo Compute."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="cudo",
    infra="cudo",
    title="Cudo",
    credentials=("~/.config/cudo/cudo.yml",),
    login="cudoctl init",
    refusals=refuse(Feature.SPOT, Feature.IMAGE, Feature.AUTOSTOP, Feature.DISK_TIER, Feature.NETWORK_TIER),
)
