"""VMware vSphere: machines of the user's own."""

from ftl_launcher.clouds.facts import Cloud, Feature, refuse

CLOUD = Cloud(
    name="vsphere",
    infra="vsphere",
    title="vSphere",
    credentials=("~/.vsphere/credential.yaml",),
    login="name the vCenters in ~/.vsphere/credential.yaml",
    refusals=refuse(
        Feature.SPOT,
        Feature.IMAGE,
        Feature.MULTI_NODE,
        Feature.DISK_TIER,
        Feature.NETWORK_TIER,
        Feature.PORTS,
    ),
    is_rented=False,
)
