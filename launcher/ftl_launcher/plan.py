"""What a launch will do, decided once: config and flags -> RunPlan.

A plan is frozen, made without I/O, written to JSON as it stands, and holds names of secrets, never values.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

from ftl_config.errors import FtlError
from ftl_config.protocol import Env
from ftl_launcher.accelerators import Accelerator, Vendor, parse_accelerators, vendor_of
from ftl_launcher.secret_names import default_plain_names, default_secret_names

if TYPE_CHECKING:
    from ftl_config import Config, LoadedConfig
    from ftl_config.schema.launch import LaunchSection

PYTHON = "${python}"
"""Stands in argv for the interpreter that has the runner; each backend puts its own in."""
CONFIG = "${config}"
"""Stands in argv for the path of the config file where the run happens."""

CONTAINER_ENGINES = ("docker", "podman")
"""Written as clouds by users: a container on this machine."""

ON_THIS_MACHINE = ("local", "docker")
"""Backends whose runs see the files of this machine at their own paths."""

DEFAULT_MAX_FAILURES = 2
"""How often Ray Train restarts a worker group before the run counts as failed."""


@dataclass(frozen=True)
class Resources:
    """What each node needs. ``memory_gb`` and ``cpus`` may end in ``+`` (at least)."""

    accelerators: tuple[Accelerator, ...] = ()
    instance_type: str | None = None
    cpus: str | None = None
    memory_gb: str | None = None
    disk_gb: int | None = None
    disk_tier: str | None = None
    network_tier: str | None = None
    spot: bool = False
    max_hourly_cost: float | None = None
    ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def vendor(self) -> Vendor:
        return vendor_of(self.accelerators)


@dataclass(frozen=True)
class Placement:
    """Where it may run: clouds in order of preference, or the address of a cluster."""

    clouds: tuple[str, ...] = ()
    region: str | None = None
    zone: str | None = None
    ray_address: str | None = None
    namespace: str | None = None
    partition: str | None = None
    autostop_minutes: int | None = None
    autodown: bool = True
    managed: bool = True
    """A managed job of SkyPilot's rather than a cluster of its own."""


@dataclass(frozen=True)
class Recovery:
    """How a run comes back after trouble. None leaves the backend's own default."""

    strategy: str | None = None
    max_restarts_on_errors: int = 0
    max_failures: int = DEFAULT_MAX_FAILURES
    """How often Ray Train starts a failed worker group again by itself."""


@dataclass(frozen=True)
class HostFacts:
    """What the launcher saw of its own machine; the only way that facts of the machine enter a plan."""

    workdir: str
    """Absolute path of the folder that ``ftl`` was called in."""
    num_gpus: int = 0
    environment_names: frozenset[str] = frozenset()
    """Names (never values) of the variables that are set, in the environment or in ``.env``."""
    hf_home: str | None = None
    """Hugging Face's cache, where there is one."""
    user: str | None = None
    """``uid:gid`` of whoever calls ftl."""
    plain_environment: Mapping[str, str] = field(default_factory=dict)
    """Values of the few variables that travel and hold no secret, such as AWS_ENDPOINT_URL."""


@dataclass(frozen=True)
class RunPlan:
    """Everything that submission needs but the values of secrets."""

    name: str
    backend: str
    launch_number: int
    argv: tuple[str, ...]
    env: Mapping[str, str]
    secret_names: tuple[str, ...]
    config_yaml: str
    config_digest: str
    checkpoint_uri: str
    image: str | None
    resources: Resources
    placement: Placement
    recovery: Recovery
    num_nodes: int
    workers_per_node: int
    workdir: str | None
    """Folder the run starts in: this machine's for ``local``, uploaded for the others."""
    mounts: Mapping[str, str]
    """Path on the nodes -> local path or bucket URL."""
    setup: str | None
    """Shell text that every node runs first."""
    ftl_version: str
    venv: str | None = None
    """Virtual environment on the nodes that has the runner, where one is there already."""
    extra_packages: tuple[str, ...] = ()
    """Python packages that the nodes install before the run."""
    host_user: str | None = None
    """``uid:gid`` of whoever launched it, for a container on this machine."""
    max_hours: float | None = None
    max_cost: float | None = None
    """Dollars; see limits.py."""
    upload_excludes: tuple[str, ...] = ()
    """Patterns of the workdir's ``.ftlignore``."""
    mount_modes: Mapping[str, str] = field(default_factory=dict)
    """Path on the nodes -> how its bucket is there; it is copied where nothing stands here."""

    @property
    def num_workers(self) -> int:
        return self.num_nodes * self.workers_per_node

    @property
    def submission_id(self) -> str:
        """Names one launch of the run at the backend; the same launch submitted twice is refused there."""
        return f"ftl-{self.name}-{self.launch_number}"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> RunPlan:
        """Read back what `to_json` wrote, also that of an older or a newer ftl."""
        known = {each.name for each in fields(cls)}
        values = {key: value for key, value in json.loads(text).items() if key in known}
        resources = values.pop("resources")
        resources["accelerators"] = tuple(Accelerator(**item) for item in resources["accelerators"])
        resources["ports"] = tuple(resources["ports"])
        placement = values.pop("placement")
        placement["clouds"] = tuple(placement["clouds"])
        recovery = values.pop("recovery")
        for name in ("argv", "secret_names", "extra_packages", "upload_excludes"):
            values[name] = tuple(values.get(name, ()))
        return cls(
            **values,
            resources=Resources(**resources),
            placement=Placement(**placement),
            recovery=Recovery(**recovery),
        )


class _Sizes(NamedTuple):
    name: str
    checkpoint_uri: str
    num_nodes: int
    num_workers: int
    max_failures: int


def make_plan(loaded: LoadedConfig, name: str, host: HostFacts, *, ftl_version: str) -> RunPlan:
    """Decide where and how a config runs.

    Raises:
        FtlError: flags or the launch section contradict each other.
    """
    config, launch = loaded.config, loaded.config.launch
    backend = choose_backend(launch)
    resources = _resources(launch)
    num_nodes = launch.nodes
    workers_per_node = _workers_per_node(config, resources, num_nodes, host if backend == "local" else None)
    checkpoint_uri = _checkpoint_uri(config, name, backend, host)
    recovery = _recovery(launch)
    image = launch.whole_image
    sizes = _Sizes(name, checkpoint_uri, num_nodes, workers_per_node * num_nodes, recovery.max_failures)
    config_yaml = loaded.to_yaml()
    return RunPlan(
        name=name,
        backend=backend,
        launch_number=1,
        argv=(PYTHON, "-m", "ftl_runner", "train", CONFIG),
        env=_environment(sizes, launch, host) | _container_environment(backend, host) | _restarts(backend, recovery),
        secret_names=_secret_names(launch, host, uses_s3="s3://" in checkpoint_uri + config_yaml),
        config_yaml=config_yaml,
        config_digest=loaded.digest,
        checkpoint_uri=checkpoint_uri,
        image=image.name,
        extra_packages=tuple(image.extra_packages or ()),
        resources=resources,
        placement=_placement(launch, backend),
        recovery=recovery,
        num_nodes=num_nodes,
        workers_per_node=workers_per_node,
        workdir=host.workdir if backend in ON_THIS_MACHINE else _absolute(launch.workdir, host.workdir),
        mounts=_mounts(config, checkpoint_uri, host) if backend == "docker" else launch.mount_sources,
        mount_modes=launch.mount_modes,
        setup=launch.setup,
        venv=launch.venv,
        ftl_version=ftl_version,
        host_user=host.user if backend == "docker" else None,
        max_hours=launch.max_hours,
        max_cost=launch.max_cost,
    )


def _absolute(workdir: str | None, called_in: str) -> str | None:
    """``launch.workdir`` from the folder that ftl was called in: `ftl resume` may be called in another."""
    if workdir is None or "://" in workdir:
        return workdir
    return os.path.join(called_in, os.path.expanduser(workdir)).removesuffix("/.")


def choose_backend(launch: LaunchSection) -> str:
    """``launch.backend``, else what the other keys imply: a cloud, a Ray address, or this machine."""
    if launch.backend:
        return launch.backend
    clouds = _clouds(launch)
    if clouds and clouds[0] in CONTAINER_ENGINES:
        return "docker"
    if clouds and clouds != ("local",):
        return "skypilot"
    return "ray" if launch.ray_address else "local"


def _clouds(launch: LaunchSection) -> tuple[str, ...]:
    return tuple(part.strip().lower() for part in (launch.cloud or "").split(",") if part.strip())


def _placement(launch: LaunchSection, backend: str) -> Placement:
    return Placement(
        clouds=_clouds(launch) if backend in ("skypilot", "docker", "dstack") else (),
        region=launch.region,
        zone=launch.zone,
        ray_address=launch.ray_address if backend == "ray" else None,
        namespace=launch.namespace,
        partition=launch.partition,
        autostop_minutes=launch.autostop_minutes,
        autodown=launch.autodown,
        managed=launch.managed if launch.managed is not None else launch.autostop_minutes is None,
    )


def _resources(launch: LaunchSection) -> Resources:
    return Resources(
        accelerators=parse_accelerators(launch.accelerators),
        instance_type=launch.instance_type,
        cpus=_text(launch.cpus),
        memory_gb=_text(launch.memory),
        disk_gb=launch.disk_gb,
        disk_tier=launch.disk_tier,
        network_tier=launch.network_tier,
        spot=launch.spot,
        max_hourly_cost=launch.max_hourly_cost,
        ports=tuple(launch.ports or ()),
        labels=dict(launch.labels or {}),
    )


def _text(value: float | str | None) -> str | None:
    return None if value is None else str(value)


def _workers_per_node(config: Config, resources: Resources, num_nodes: int, local: HostFacts | None) -> int:
    """One worker an accelerator, unless the config asks for another number."""
    if "ray_num_workers" in config.distributed.model_fields_set:
        total = config.distributed.ray_num_workers
        if total % num_nodes:
            raise FtlError(
                f"ray_num_workers is {total}, which {num_nodes} nodes cannot share evenly",
                hint="make it a multiple of launch.nodes",
                exit_code=2,
            )
        return total // num_nodes
    if resources.accelerators:
        return resources.accelerators[0].count
    if config.launch.workers_per_node:
        return config.launch.workers_per_node
    return max(local.num_gpus, 1) if local else 1


def _checkpoint_uri(config: Config, name: str, backend: str, host: HostFacts) -> str:
    """``<checkpoint or launch.checkpoint_bucket>/<name>``; the output folder where neither is given."""
    root = config.checkpointing.checkpoint or config.launch.checkpoint_bucket
    if root is None:
        root, suffix = config.checkpointing.output_dir, ""
    else:
        suffix = f"/{name}"
    root = root.rstrip("/")
    is_local_path = "://" not in root
    if is_local_path and backend in ON_THIS_MACHINE and not root.startswith("/"):
        root = f"{host.workdir}/{root.removeprefix('./')}"
    return root + suffix


def _mounts(config: Config, checkpoint_uri: str, host: HostFacts) -> dict[str, str]:
    """Folders of this machine that a container sees at their own paths: what the config names outside the workdir."""
    named = [config.model.base_model, config.checkpointing.output_dir, checkpoint_uri, host.hf_home]
    named += [config.data.dataset_prepared_path, config.adapter.lora_model_dir]
    named += [dataset.path for dataset in (*(config.data.datasets or ()), *(config.data.test_datasets or ()))]
    inside = host.workdir.rstrip("/") + "/"
    outside = [path for path in named if path and path.startswith("/") and not f"{path}/".startswith(inside)]
    return {**{path: path for path in dict.fromkeys(outside)}, **config.launch.mount_sources}


def _recovery(launch: LaunchSection) -> Recovery:
    section = launch.recovery
    if section is None:
        return Recovery()
    return Recovery(
        strategy=section.strategy,
        max_restarts_on_errors=section.max_restarts_on_errors,
        max_failures=DEFAULT_MAX_FAILURES if section.max_restarts is None else section.max_restarts,
    )


def _environment(plan_values: _Sizes, launch: LaunchSection, host: HostFacts) -> dict[str, str]:
    """The user's variables, the few plain ones that travel by themselves, and the runner's protocol on top."""
    protocol = {
        str(Env.RUN_ID): plan_values.name,
        str(Env.CHECKPOINT_URI): plan_values.checkpoint_uri,
        str(Env.EXECUTOR): "ray",
        str(Env.EVENTS): "stdout",
        str(Env.NUM_NODES): str(plan_values.num_nodes),
        str(Env.NUM_WORKERS): str(plan_values.num_workers),
        str(Env.MAX_FAILURES): str(plan_values.max_failures),
    }
    if accelerators := parse_accelerators(launch.accelerators):  # what the nodes compare themselves with
        protocol[str(Env.ACCELERATORS)] = ",".join(map(str, accelerators))
    return {**carried_environment(host), **(launch.env or {}), **protocol}


def _restarts(backend: str, recovery: Recovery) -> dict[str, str]:
    """Only SkyPilot starts a failed run again."""
    allowed = recovery.max_restarts_on_errors if backend == "skypilot" else 0
    return {str(Env.MAX_RESTARTS_ON_ERRORS): str(allowed)} if allowed else {}


def _container_environment(backend: str, host: HostFacts) -> dict[str, str]:
    return {"HF_HOME": host.hf_home} if backend == "docker" and host.hf_home else {}


def carried_environment(host: HostFacts) -> dict[str, str]:
    """Plain settings of the launching shell that go along with its credentials, such as AWS_ENDPOINT_URL."""
    return {key: host.plain_environment[key] for key in default_plain_names() if key in host.plain_environment}


def _secret_names(launch: LaunchSection, host: HostFacts, uses_s3: bool) -> tuple[str, ...]:
    """Names that the config asks for, then the usual ones that happen to be set (AWS's only where S3 is used)."""
    usual = [
        name
        for name in default_secret_names()
        if name in host.environment_names and (uses_s3 or not name.startswith("AWS_"))
    ]
    return tuple(dict.fromkeys([*(launch.secrets or ()), *usual]))
