"""Rendered requests, byte for byte. ``pytest --update-golden`` writes them anew; review the diff."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from ftl_launcher.backends.registry import load_backend
from ftl_launcher.clouds import CLOUDS, Feature, find_cloud
from ftl_launcher.plan import HostFacts, RunPlan, make_plan
from ftl_launcher.render import render_ray_job
from ftl_launcher.submission import make_request
from tests.unit.launcher.plans import HOST, load

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
ACCELERATORS = {"nvidia": "H100:8", "amd": "MI300X:8"}
IMAGES = {"nvidia": "ghcr.io/ftl/cuda:1.2.3", "amd": "ghcr.io/ftl/rocm:1.2.3"}
IN_FULL = ("aws", "azure", "gcp", "kubernetes", "lambda", "nebius", "oci", "runpod", "slurm", "ssh")
"""Clouds with every combination; the others have one."""
HOST_WITH_KEYS = HostFacts(
    workdir="/home/me/project",
    environment_names=frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"}),
    plain_environment={"AWS_ENDPOINT_URL": "https://s3.example.org"},
)


@dataclass(frozen=True)
class Case:
    """One cloud, vendor, market and size."""

    cloud: str
    vendor: str
    spot: bool
    nodes: int

    @property
    def name(self) -> str:
        return f"{self.cloud}-{self.vendor}-{'spot' if self.spot else 'ondemand'}-{self.nodes}"

    def plan(self) -> RunPlan:
        flags = [
            f"--launch.cloud={self.cloud}",
            f"--launch.accelerators={ACCELERATORS[self.vendor]}",
            f"--launch.nodes={self.nodes}",
            "--checkpoint=s3://bucket/runs",
        ]
        flags += ["--launch.spot"] if self.spot else []
        refused = find_cloud(self.cloud).refusals
        flags += [] if Feature.IMAGE in refused else [f"--launch.image={IMAGES[self.vendor]}"]
        flags += ["--launch.managed=false"] if Feature.AUTODOWN in refused else []
        return make_plan(load(*flags), "run-1", HOST_WITH_KEYS, ftl_version="1.2.3")


CASES = [
    Case(cloud, vendor, spot, nodes)
    for cloud, vendor, spot, nodes in itertools.product(IN_FULL, ACCELERATORS, (False, True), (1, 2))
] + [Case(cloud, "nvidia", False, 1) for cloud in CLOUDS if cloud not in IN_FULL]
POSSIBLE = [case for case in CASES if not load_backend("skypilot").refusals(case.plan())]


@pytest.fixture
def check_golden(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """Compare with the stored file, or store it."""

    def check(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path.name} is missing: run with --update-golden"
        assert text == path.read_text(), f"{path.name} differs: run with --update-golden and review the diff"

    return check


@pytest.mark.parametrize("case", POSSIBLE, ids=lambda case: case.name)
def test_skypilot_task_is_as_stored(case: Case, check_golden) -> None:  # type: ignore[no-untyped-def]
    _, request = make_request(case.plan())
    check_golden(GOLDEN / "skypilot" / f"{case.name}.yaml", request.text)


def test_every_refused_combination_says_why() -> None:
    refused = {case.name: load_backend("skypilot").refusals(case.plan()) for case in CASES if case not in POSSIBLE}
    assert "slurm-nvidia-spot-1" in refused
    assert "runpod-nvidia-ondemand-2" in refused
    assert "aws-amd-ondemand-1" in refused
    assert all(len(reason) > 20 for reasons in refused.values() for reason in reasons)


def test_every_cloud_has_a_stored_task() -> None:
    assert {case.cloud for case in POSSIBLE} == set(CLOUDS)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("candidates", ("--launch.cloud=aws,gcp", "--launch.accelerators=[H100:8, A100-80GB:8]", "--launch.spot")),
        ("cluster", ("--launch.cloud=aws", "--launch.accelerators=A10G:1", "--launch.autostop-minutes=10")),
        (
            "private-image",
            (
                "--launch.cloud=aws",
                "--launch.accelerators=H100:8",
                "--launch.image=registry.example.com/team/ftl:1.2.3",
                "--launch.secrets=[SKYPILOT_DOCKER_USERNAME, SKYPILOT_DOCKER_PASSWORD, SKYPILOT_DOCKER_SERVER]",
            ),
        ),
        (
            "mounts",
            (
                "--launch.cloud=aws",
                "--launch.accelerators=H100:8",
                "--launch.file-mounts={/copied: 's3://data/chats', /cached: {source: 's3://data', mode: mount_cached}, "
                "/mounted: {source: 's3://data', mode: mount}}",
            ),
        ),
        (
            "everything",
            (
                "--launch.cloud=gcp",
                "--launch.region=us-central1",
                "--launch.zone=us-central1-a",
                "--launch.accelerators=H100:8",
                "--launch.cpus=32+",
                "--launch.memory=256+",
                "--launch.disk-gb=512",
                "--launch.disk-tier=high",
                "--launch.network-tier=best",
                "--launch.max-hourly-cost=80",
                "--launch.image=ghcr.io/ftl/cuda:1.2.3",
                '--launch.setup=echo it\'s "ready"',
                "--launch.recovery.strategy=failover",
                "--launch.recovery.max-restarts-on-errors=3",
            ),
        ),
    ],
)
def test_skypilot_options_are_as_stored(name: str, flags: tuple[str, ...], check_golden) -> None:  # type: ignore[no-untyped-def]
    plan = make_plan(load(*flags, "--checkpoint=s3://bucket/runs"), "run-1", HOST_WITH_KEYS, ftl_version="1.2.3")
    check_golden(GOLDEN / "skypilot" / f"{name}.yaml", make_request(plan)[1].text)


def test_local_ray_job_is_as_stored(check_golden) -> None:  # type: ignore[no-untyped-def]
    plan = make_plan(load("--ray-num-workers=2"), "run-1", HOST, ftl_version="1.2.3")
    text = render_ray_job(plan, python="/opt/venv/bin/python", config_path="/home/me/state/run 1/config.yml")
    check_golden(GOLDEN / "ray" / "local.json", text)
    assert json.loads(text)["entrypoint"].endswith("train '/home/me/state/run 1/config.yml'")


def test_ray_cluster_job_is_as_stored(check_golden) -> None:  # type: ignore[no-untyped-def]
    flags = ("--launch.ray-address=http://head:8265", "--launch.accelerators=H100:8", "--checkpoint=s3://bucket/runs")
    plan = make_plan(load(*flags), "run-1", HOST_WITH_KEYS, ftl_version="1.2.3")
    check_golden(GOLDEN / "ray" / "cluster.json", make_request(plan)[1].text)


CLUSTER_FLAGS = {
    "everything": (
        "--launch.accelerators=H100:8",
        "--launch.nodes=2",
        "--launch.cpus=32+",
        "--launch.memory=256",
        "--launch.disk-gb=512",
        "--launch.instance-type=p5.48xlarge",
        "--launch.region=us-east-1",
        "--launch.zone=us-east-1a",
        "--launch.image={name: ghcr.io/ftl/cuda:1.2.3, extra_packages: [einops==0.8.1]}",
        "--launch.labels={team: research}",
        '--launch.setup=echo it\'s "ready" at $$HOME',
        "--launch.env={GREETING: 'costs $$ or $(HOME)'}",
    ),
    **{
        f"{vendor}-{nodes}": (
            f"--launch.accelerators={ACCELERATORS[vendor]}",
            f"--launch.nodes={nodes}",
            f"--launch.image={IMAGES[vendor]}",
        )
        for vendor, nodes in itertools.product(ACCELERATORS, (1, 2))
    },
}
ONLY = {
    "kuberay": (
        "--launch.namespace=training",
        "--launch.file-mounts={/data: 'pvc://datasets'}",
        "--launch.recovery.max-restarts-on-errors=2",
    ),
    "dstack": (
        "--launch.cloud=aws,k8s",
        "--launch.spot",
        "--launch.max-hourly-cost=90",
        "--launch.max-hours=12",
        "--launch.autostop-minutes=10",
        "--launch.ports=['8080']",
        "--launch.workdir=/home/me/project",
    ),
}


@pytest.mark.parametrize("name", CLUSTER_FLAGS)
@pytest.mark.parametrize("backend", ONLY)
def test_manifests_are_as_stored(backend: str, name: str, check_golden) -> None:  # type: ignore[no-untyped-def]
    flags = [*CLUSTER_FLAGS[name], *(ONLY[backend] if name == "everything" else ())]
    loaded = load(f"--launch.backend={backend}", *flags, "--checkpoint=s3://bucket/runs")
    plan = make_plan(loaded, "run-1", HOST_WITH_KEYS, ftl_version="1.2.3")
    check_golden(GOLDEN / backend / f"{name}.yaml", make_request(plan)[1].text)


def test_no_stored_task_is_left_over() -> None:
    stored = {path.stem for path in (GOLDEN / "skypilot").glob("*.yaml")}
    others = {"candidates", "cluster", "private-image", "mounts", "everything"}
    assert stored == {case.name for case in POSSIBLE} | others


_LOAD_WITH_SKYPILOT = """
import sys, yaml
import sky
for path in sys.argv[1:]:
    config = yaml.safe_load(open(path))
    names = list(config.get("secrets") or {})
    task = sky.Task.from_yaml_config(dict(config), secrets_overrides=[(name, "x") for name in names])
    assert task.num_nodes == config["num_nodes"], path
    assert set(task.secrets) == set(names), path
    assert task.resources, path
print(len(sys.argv) - 1)
"""


@pytest.mark.slow
def test_skypilot_itself_loads_every_stored_task(tmp_path: Path) -> None:
    pytest.importorskip("sky")
    paths = sorted(map(str, (GOLDEN / "skypilot").glob("*.yaml")))
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    result = subprocess.run(
        [sys.executable, "-c", _LOAD_WITH_SKYPILOT, *paths], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.split()[-1] == str(len(paths))


@pytest.mark.parametrize("path", sorted((GOLDEN / "skypilot").glob("*-2.yaml"))[:3], ids=lambda path: path.stem)
def test_run_script_is_valid_shell(path: Path) -> None:
    import yaml

    script = yaml.safe_load(path.read_text())["run"]
    result = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
