"""Prime Intellect."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="primeintellect",
    infra="primeintellect",
    title="Prime Intellect",
    credentials=("~/.prime/config.json",),
    login="prime login",
    # Spot is not in its table, but every machine is ordered at the on-demand price.
    refusals=refuse(
        Feature.SPOT,
        Feature.IMAGE,
        Feature.MULTI_NODE,
        Feature.AUTOSTOP,
        Feature.AUTODOWN,
        Feature.DISK_TIER,
        Feature.NETWORK_TIER,
    ),
)
