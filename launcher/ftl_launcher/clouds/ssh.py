"""Machines of the user's own, reached over SSH (a SkyPilot SSH node pool)."""

from ftl_launcher.clouds.facts import Cloud, Feature

CLOUD = Cloud(
    name="ssh",
    infra="ssh",
    title="SSH node pool",
    credentials=("~/.sky/ssh_node_pools.yaml",),
    login="name the machines in ~/.sky/ssh_node_pools.yaml; sky ssh up",
    refusals={
        Feature.SPOT: "machines of your own are never spot; leave launch.spot out",
        Feature.AUTOSTOP: "machines of your own are not stopped; leave launch.autodown: false out, and they are freed",
        Feature.DISK_TIER: "machines of your own have the disks they have; leave launch.disk_tier out",
        Feature.NETWORK_TIER: "machines of your own have the network they have; leave launch.network_tier out",
    },
    # No variables: as on slurm.
    is_container=True,
    is_rented=False,
)
