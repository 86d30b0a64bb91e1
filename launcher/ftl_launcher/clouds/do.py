"""DigitalOcean."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="do",
    infra="do",
    title="DigitalOcean",
    credentials=("~/.config/doctl/config.yaml", "~/Library/Application Support/doctl/config.yaml"),
    login="doctl auth init",
    refusals=refuse(Feature.SPOT, Feature.DISK_TIER, Feature.NETWORK_TIER),
)
