"""Samsung Cloud Platform."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="scp",
    infra="scp",
    title="Samsung Cloud",
    credentials=("~/.scp/scp_credential",),
    login="put access_key, secret_key and project_id into ~/.scp/scp_credential",
    refusals=refuse(Feature.SPOT, Feature.IMAGE, Feature.DISK_TIER, Feature.NETWORK_TIER),
)
