"""Where a run is started: ours, and never part of what the run computes."""

from typing import Literal

from ftl_config.schema.types import Count, NonNegativeInt, Positive, Section, Texts


class Recovery(Section):
    """What happens when a machine is lost or the run fails."""

    strategy: str | None = None
    """How a new machine is looked for: failover, eager_next_region, none; the backend's own when left out."""
    max_restarts_on_errors: NonNegativeInt = 0
    """How often a run that failed by itself is started again."""
    max_restarts: NonNegativeInt | None = None
    """How often a run whose machine was lost is started again; without limit when left out."""


class Image(Section):
    """A container image, and what it lacks."""

    name: str | None = None
    """Reference of the image; ours for the hardware when left out."""
    extra_packages: Texts | None = None
    """Python packages to install in it before the run, such as einops==0.8.1."""


class FileMount(Section):
    """A bucket on the nodes."""

    source: str
    """Address of the bucket, such as s3://my-bucket."""
    mode: Literal["copy", "mount", "mount_cached"] = "copy"
    """copy: its files are copied before the run. mount: reads and writes go to it. mount_cached: through the disk."""


class LaunchSection(Section):
    """Machines, image, files and environment of a launched run. Everything can be given by flags instead."""

    backend: str | None = None
    """What starts the run: local, docker, ray, kuberay, skypilot, dstack."""
    cloud: str | None = None
    """Cloud to run on: aws, gcp, azure, kubernetes, slurm, ...; the cheapest that fits when left out."""
    region: str | None = None
    """Region of that cloud; on Kubernetes, the context of the kubeconfig."""
    zone: str | None = None
    """Zone of that region."""
    accelerators: str | dict[str, Count] | Texts | None = None
    """GPUs of a node: H100:8, {H100: 8}, or a list to choose from."""
    cpus: int | float | str | None = None
    """CPU cores of a node; 8+ means at least 8."""
    memory: int | float | str | None = None
    """Memory of a node in GiB; 64+ means at least 64."""
    instance_type: str | None = None
    """The cloud's own name of a machine type."""
    nodes: Count = 1
    """Number of machines."""
    workers_per_node: Count | None = None
    """Training processes on a machine; one a GPU when left out."""
    spot: bool = False
    """Use machines that can be taken away, for less."""
    image: str | Image | None = None
    """Container image, or a mapping of its name and extra_packages; ours for the hardware when left out."""
    disk_gb: Count | None = None
    """Disk of a node in GB."""
    disk_tier: Literal["low", "medium", "high", "ultra", "best"] | None = None
    """Speed of the disk."""
    network_tier: Literal["standard", "best"] | None = None
    """Speed of the network between nodes."""
    ports: Texts | None = None
    """Ports to open."""
    autostop_minutes: NonNegativeInt | None = None
    """Stop idle machines after so many minutes."""
    autodown: bool = True
    """Delete machines when they stop."""
    env: dict[str, str] | None = None
    """Environment variables. Not for secrets."""
    secrets: Texts | None = None
    """Names of environment variables whose values are passed on without being written anywhere."""
    workdir: str | None = None
    """Directory to copy to the nodes and to run in."""
    file_mounts: dict[str, str | FileMount] | None = None
    """Path on the node to a local path or bucket address, which is copied, or to a bucket's source and mode."""
    setup: str | None = None
    """Shell commands to run on every node first."""
    venv: str | None = None
    """Virtual environment on the nodes that has ftl-tune[runner]; nothing is installed then."""
    managed: bool | None = None
    """A SkyPilot managed job, which recovers, rather than a cluster; true unless autostop is asked for."""
    checkpoint_bucket: str | None = None
    """Bucket or directory for checkpoints of all runs; each run gets a folder of its name."""
    recovery: Recovery | None = None
    """What happens when a machine is lost or the run fails."""
    max_hourly_cost: Positive | None = None
    """Refuse machines that cost more, in dollars an hour for all nodes."""
    max_hours: Positive | None = None
    """Save a checkpoint and stop after so many hours on the machines, all attempts together."""
    max_cost: Positive | None = None
    """The same after so many dollars, by the price at launch."""
    preflight: bool = True
    """Check every node before the model is loaded: GPUs, driver, disk, shared memory, store, clock, network."""
    ray_address: str | None = None
    """Address of a running Ray cluster, such as http://host:8265."""
    namespace: str | None = None
    """Kubernetes namespace."""
    partition: str | None = None
    """Slurm partition."""
    labels: dict[str, str] | None = None
    """Labels on the machines, for bookkeeping."""
    name: str | None = None
    """Name of the run; made from the config's file name when left out."""

    @property
    def whole_image(self) -> Image:
        """``image`` as the mapping that a bare name is short for."""
        return self.image if isinstance(self.image, Image) else Image(name=self.image)

    @property
    def mount_sources(self) -> dict[str, str]:
        """Path on the node -> local path or address."""
        mounts = self.file_mounts or {}
        return {path: mount if isinstance(mount, str) else mount.source for path, mount in mounts.items()}

    @property
    def mount_modes(self) -> dict[str, str]:
        """Path on the node -> mount or mount_cached; nothing for what is copied."""
        mounts = {path: mount for path, mount in (self.file_mounts or {}).items() if isinstance(mount, FileMount)}
        return {path: mount.mode for path, mount in mounts.items() if mount.mode != "copy"}
