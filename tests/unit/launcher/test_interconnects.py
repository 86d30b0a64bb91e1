"""What each cloud's nodes are told of their network: in the task, overridable, and on the page."""

from __future__ import annotations

import pytest
import yaml

from ftl_launcher.clouds import CLOUDS, find_cloud
from ftl_launcher.submission import make_request
from tests.services.s3 import ROOT
from tests.unit.launcher.plans import plan_of

S3 = "--checkpoint=s3://bucket/runs"


def task(*flags: str) -> dict[str, dict[str, object]]:
    loaded: dict[str, dict[str, object]] = yaml.safe_load(make_request(plan_of(*flags, S3))[1].text)
    return loaded


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_page_has_every_variable(cloud: str) -> None:
    facts = find_cloud(cloud)
    rows = [line for line in (ROOT / "docs/preflight.md").read_text().splitlines() if line.startswith("| ")]
    (row,) = [row for row in rows if cloud in row.split("|")[1].replace(",", " ").split()]
    for variables in facts.multi_node_env.values():
        for name, value in variables.items():
            assert f"`{name}={value}`" in row
    for section, settings in facts.multi_node_config.items():
        assert all(f"`{section}.{name}`" in row for name in settings)


def test_only_several_nodes_are_told() -> None:
    several = task("--launch.cloud=aws", "--launch.accelerators=H100:8", "--launch.nodes=2")["envs"]
    one = task("--launch.cloud=aws", "--launch.accelerators=H100:8")["envs"]
    assert several["FI_PROVIDER"] == "efa"
    assert "FI_EFA_USE_DEVICE_RDMA" not in several  # ranks on g5 abort with it
    assert "FI_PROVIDER" not in one


def test_the_users_word_is_the_last() -> None:
    flags = ("--launch.cloud=oci", "--launch.accelerators=MI300X:8", "--launch.nodes=2")
    assert task(*flags)["envs"]["NCCL_IB_TC"] == "41"
    assert task(*flags, "--launch.env={NCCL_IB_TC: '105'}")["envs"]["NCCL_IB_TC"] == "105"


def test_google_clouds_network_is_a_setting_of_skypilots() -> None:
    flags = ("--launch.cloud=gcp", "--launch.accelerators=L4:8")
    assert task(*flags, "--launch.nodes=2")["config"]["gcp"] == {"enable_gvnic": True}
    assert "config" not in task(*flags)


def test_nodes_are_told_what_they_are_to_have() -> None:
    flags = ("--launch.cloud=gcp", "--launch.accelerators=[H100:8, A100-80GB:8]")
    assert task(*flags)["envs"]["FTL_ACCELERATORS"] == "H100:8,A100-80GB:8"
    assert "FTL_ACCELERATORS" not in task("--launch.cloud=gcp")["envs"]
