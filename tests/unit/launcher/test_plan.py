"""Config and flags -> plan."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ftl_config.errors import FtlError
from ftl_launcher.accelerators import Accelerator, Vendor, parse_accelerators
from ftl_launcher.plan import HostFacts, RunPlan
from tests.unit.launcher.plans import HOST, plan_of


@pytest.mark.parametrize(
    ("flags", "backend"),
    [
        ((), "local"),
        (("--launch.cloud=local",), "local"),
        (("--launch.cloud=aws",), "skypilot"),
        (("--launch.cloud=aws,gcp",), "skypilot"),
        (("--launch.ray-address=http://head:8265",), "ray"),
        (("--launch.backend=ray", "--launch.ray-address=http://head:8265"), "ray"),
    ],
)
def test_backend_follows_from_the_launch_section(flags: tuple[str, ...], backend: str) -> None:
    assert plan_of(*flags).backend == backend


@pytest.mark.parametrize(
    ("flags", "num_gpus", "workers"),
    [
        ((), 0, 1),
        ((), 4, 4),
        (("--launch.workers-per-node=3",), 0, 3),
        (("--ray-num-workers=2",), 4, 2),
        (("--launch.accelerators=H100:8", "--launch.cloud=aws"), 0, 8),
        (("--launch.accelerators=H100:8", "--launch.nodes=2", "--launch.cloud=aws"), 0, 16),
        (("--ray-num-workers=4", "--launch.nodes=2", "--launch.cloud=aws"), 0, 4),
        (("--launch.cloud=aws", "--launch.workers-per-node=2"), 4, 2),
    ],
)
def test_number_of_workers(flags: tuple[str, ...], num_gpus: int, workers: int) -> None:
    plan = plan_of(*flags, host=HostFacts(workdir="/w", num_gpus=num_gpus))
    assert plan.num_workers == workers
    assert plan.env["FTL_NUM_WORKERS"] == str(workers)


def test_workers_that_nodes_cannot_share_are_refused() -> None:
    with pytest.raises(FtlError, match="cannot share evenly"):
        plan_of("--ray-num-workers=3", "--launch.nodes=2", "--launch.cloud=aws")


@pytest.mark.parametrize(
    ("flags", "uri"),
    [
        ((), "/home/me/project/out"),
        (("--output-dir=/data/out/",), "/data/out"),
        (("--checkpoint=s3://bucket/runs/",), "s3://bucket/runs/run-1"),
        (("--checkpoint=runs",), "/home/me/project/runs/run-1"),
        (("--launch.checkpoint-bucket=s3://bucket", "--launch.cloud=aws"), "s3://bucket/run-1"),
        (("--launch.cloud=aws",), "./out"),
    ],
)
def test_checkpoint_uri(flags: tuple[str, ...], uri: str) -> None:
    plan = plan_of(*flags)
    assert plan.checkpoint_uri == uri
    assert plan.env["FTL_CHECKPOINT_URI"] == uri


def test_json_round_trip() -> None:
    plan = plan_of(
        "--launch.cloud=aws,gcp",
        "--launch.accelerators=H100:8",
        "--launch.spot",
        "--launch.ports=[8080]".replace("8080", '"8080"'),
        "--launch.recovery.max-restarts-on-errors=2",
        "--launch.file-mounts={/data: s3://bucket/data}",
    )
    assert RunPlan.from_json(plan.to_json()) == plan


def test_secrets_are_names_and_only_where_they_serve() -> None:
    host = HostFacts(
        workdir="/w",
        environment_names=frozenset({"HF_TOKEN", "AWS_ACCESS_KEY_ID", "OTHER"}),
        plain_environment={"AWS_ENDPOINT_URL": "http://s3"},
    )
    assert plan_of("--launch.secrets=[MY_KEY]", host=host).secret_names == ("MY_KEY", "HF_TOKEN")
    with_s3 = plan_of("--checkpoint=s3://bucket", host=host)
    assert with_s3.secret_names == ("AWS_ACCESS_KEY_ID", "HF_TOKEN")
    assert with_s3.env["AWS_ENDPOINT_URL"] == "http://s3"


def test_user_environment_cannot_displace_the_protocol() -> None:
    plan = plan_of("--launch.env={MODE: fast, FTL_RUN_ID: other}")
    assert plan.env["MODE"] == "fast"
    assert plan.env["FTL_RUN_ID"] == "run-1"


def test_launches_are_told_apart() -> None:
    import dataclasses

    plan = plan_of()
    assert plan.submission_id == "ftl-run-1-1"
    assert dataclasses.replace(plan, launch_number=2).submission_id == "ftl-run-1-2"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()),
        ("H100", (Accelerator("H100", 1),)),
        ("H100:8", (Accelerator("H100", 8),)),
        ({"A100-80GB": 4}, (Accelerator("A100-80GB", 4),)),
        (("H100:8", "A100:8"), (Accelerator("H100", 8), Accelerator("A100", 8))),
    ],
)
def test_accelerators(value: object, expected: tuple[Accelerator, ...]) -> None:
    assert parse_accelerators(value) == expected


@pytest.mark.parametrize("value", ["8:H100", "H100:0", "H100:many", {"H100": 0}])
def test_bad_accelerators(value: object) -> None:
    with pytest.raises(FtlError, match="not an accelerator"):
        parse_accelerators(value)


@pytest.mark.parametrize(
    ("name", "vendor"),
    [("H100", "nvidia"), ("MI300X", "amd"), ("MI250", "amd"), ("Radeon-PRO", "amd"), ("L4", "nvidia")],
)
def test_vendor(name: str, vendor: str) -> None:
    assert Accelerator(name, 1).vendor is Vendor(vendor)


def test_mixed_vendors_are_refused() -> None:
    with pytest.raises(FtlError, match="mixes NVIDIA and AMD"):
        parse_accelerators(["H100:8", "MI300X:8"])


def test_local_plan_starts_where_ftl_was_called() -> None:
    assert plan_of().workdir == HOST.workdir
    assert plan_of("--launch.cloud=aws").workdir is None


def test_a_plan_of_another_version_is_read() -> None:
    plan = plan_of("--launch.venv=/opt/ftl")
    values = json.loads(plan.to_json())
    assert RunPlan.from_json(json.dumps({**values, "of_a_newer_ftl": 1})) == plan
    for name in ("venv", "extra_packages", "host_user"):
        del values[name]
    assert RunPlan.from_json(json.dumps(values)) == dataclasses.replace(plan, venv=None)
