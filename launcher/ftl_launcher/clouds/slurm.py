"""A Slurm cluster of the user's own, through SkyPilot."""

from ftl_launcher.clouds.facts import Cloud, Feature

CLOUD = Cloud(
    name="slurm",
    infra="slurm",
    title="Slurm",
    credentials=("~/.slurm/config",),
    login="name the login node in ~/.slurm/config",
    refusals={
        Feature.SPOT: "Slurm has no spot machines; leave launch.spot out (a managed job recovers lost nodes anyway)",
        Feature.IMAGE: "containers on Slurm need the Pyxis plug-in, and were never tried; leave launch.image out "
        "and install ftl-tune[runner] on the nodes",
        Feature.AUTOSTOP: "Slurm allocations cannot stop; leave launch.autodown: false out, and they end when idle",
        Feature.STORAGE_MOUNT: "mounted buckets need FUSE on the nodes; use an s3:// checkpoint, which needs no mount",
        Feature.DISK_TIER: "Slurm nodes have the disks they have; leave launch.disk_tier out",
        Feature.NETWORK_TIER: "Slurm nodes have the network they have; leave launch.network_tier out",
        Feature.PORTS: "nodes of a Slurm cluster are behind its login node; leave launch.ports out",
    },
    # No variables: what the cluster's own network takes stands in its /etc/nccl.conf, or in launch.env.
    is_container=True,
    is_rented=False,
)
