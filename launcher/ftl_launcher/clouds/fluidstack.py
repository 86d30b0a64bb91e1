"""FluidStack."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="fluidstack",
    infra="fluidstack",
    title="FluidStack",
    credentials=("~/.fluidstack/api_key",),
    login="put the API key at ~/.fluidstack/api_key",
    # Its table has nothing against images, but its template of a machine starts none: the run would miss it.
    refusals=refuse(Feature.SPOT, Feature.IMAGE, Feature.AUTOSTOP, Feature.DISK_TIER, Feature.NETWORK_TIER),
)
