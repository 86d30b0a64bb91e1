"""What `ftl` refuses of a cloud is what SkyPilot refuses, by the tables of the version that is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import metadata
from pathlib import Path

import pytest

from ftl_config.errors import FtlError
from ftl_launcher.backends.registry import load_backend
from ftl_launcher.clouds import CLOUDS, Feature, find_cloud
from ftl_launcher.launch_checks import CHECKS
from ftl_launcher.submission import make_request
from tests.services.s3 import ROOT
from tests.unit.launcher.plans import load, plan_of

S3 = "--checkpoint=s3://bucket/runs"

_TABLES = """
import json
import sky
from sky.clouds import CloudImplementationFeatures
from sky.exceptions import NotSupportedError
from sky.utils.registry import CLOUD_REGISTRY
from sky.utils.resources_utils import DiskTier

def takes(cloud, tier):
    try:
        cloud.check_disk_tier_enabled(None, tier)
        return True
    except NotSupportedError:
        return False

def refused(cloud):
    whole, part = (
        {feature.value for feature in cloud._unsupported_features_for_resources(sky.Resources(accelerators=gpus))}
        for gpus in ("H100:8", "H100:1")
    )
    tiers = {"disk high": DiskTier.HIGH, "disk ultra": DiskTier.ULTRA}
    missing = [word for word, tier in tiers.items() if not takes(cloud, tier)]
    return [*whole, *(f"{word} of H100:1" for word in part), *missing]

print(json.dumps({name: refused(type(cloud)) for name, cloud in CLOUD_REGISTRY.items()}))
"""
_THEIRS: dict[Feature, tuple[str, ...]] = {
    Feature.SPOT: ("spot_instance",),
    Feature.IMAGE: ("docker_image",),
    Feature.MULTI_NODE: ("multi-node",),
    Feature.AUTOSTOP: ("stop", "autostop"),
    Feature.AUTODOWN: ("autodown",),
    Feature.DISK_TIER: ("custom_disk_tier", "disk high"),
    Feature.ULTRA_DISK: ("disk ultra",),
    Feature.NETWORK_OF_PART: ("custom_network_tier of H100:1",),
    Feature.NETWORK_TIER: ("custom_network_tier",),
    Feature.PORTS: ("open_ports",),
    Feature.STORAGE_MOUNT: ("storage_mounting",),
}
"""Ours -> what SkyPilot calls it. It has no word for AMD; the optimizer knows which cloud rents what."""

_INCLUDED = {Feature.DISK_TIER: Feature.ULTRA_DISK, Feature.NETWORK_TIER: Feature.NETWORK_OF_PART}
"""What is refused anyway where the first is."""

_OURS_ALONE = {
    ("fluidstack", Feature.IMAGE),  # no image in its template of a machine
    ("ibm", Feature.SPOT),  # regions_with_offering() is empty
    ("primeintellect", Feature.SPOT),  # every pod is ordered with maxPrice 0, on demand
    ("verda", Feature.SPOT),  # wants a managed job, which cannot be there
    ("ibm", Feature.NETWORK_TIER),  # this one and the next two: nothing reads the tier
    ("oci", Feature.NETWORK_TIER),
    ("slurm", Feature.NETWORK_TIER),
}
"""Taken by SkyPilot, and then not there."""

_LEFT_TO_SKYPILOT = {("kubernetes", Feature.NETWORK_TIER), ("kubernetes", Feature.NETWORK_OF_PART)}
"""It finds out by asking the cluster, which is not there in this test."""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[str]]:
    """Cloud -> features that SkyPilot refuses, without any cloud at hand."""
    pytest.importorskip("sky")
    home = tmp_path_factory.mktemp("home")
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    done = subprocess.run([sys.executable, "-c", _TABLES], env=env, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_every_cloud_of_skypilots_is_one_of_ours(tables: Mapping[str, list[str]]) -> None:
    assert set(tables) == set(CLOUDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLOUDS)
def test_refusals_are_skypilots(name: str, tables: Mapping[str, list[str]]) -> None:
    theirs = {feature for feature, words in _THEIRS.items() if set(words) & set(tables[name])}
    theirs -= {part for whole, part in _INCLUDED.items() if whole in theirs}
    theirs -= {feature for cloud, feature in _LEFT_TO_SKYPILOT if cloud == name}
    theirs |= {feature for cloud, feature in _OURS_ALONE if cloud == name}
    assert set(find_cloud(name).refusals) - {Feature.AMD} == theirs


_ASKING: dict[Feature, tuple[str, ...]] = {
    Feature.SPOT: ("--launch.spot",),
    Feature.IMAGE: ("--launch.image=ghcr.io/team/ftl:1",),
    Feature.MULTI_NODE: ("--launch.nodes=2",),
    Feature.AUTOSTOP: ("--launch.autostop-minutes=10", "--launch.autodown=false"),
    Feature.AUTODOWN: ("--launch.autostop-minutes=10",),
    Feature.AMD: ("--launch.accelerators=MI300X:8",),
    Feature.DISK_TIER: ("--launch.disk-tier=high",),
    Feature.ULTRA_DISK: ("--launch.disk-tier=ultra",),
    Feature.NETWORK_TIER: ("--launch.network-tier=best",),
    Feature.NETWORK_OF_PART: ("--launch.network-tier=best", "--launch.accelerators=H100:1"),
    Feature.PORTS: ("--launch.ports=['8080']",),
    Feature.STORAGE_MOUNT: ("--launch.file-mounts={/data: {source: 's3://data', mode: mount_cached}}",),
}
"""What in a config asks for it."""


def test_every_feature_can_be_asked_for() -> None:
    assert set(_ASKING) == set(Feature)


@pytest.mark.parametrize("feature", Feature)
@pytest.mark.parametrize("name", CLOUDS)
def test_what_a_cloud_lacks_is_refused_in_words_and_nothing_else(name: str, feature: Feature) -> None:
    cloud = find_cloud(name)
    plan = plan_of(f"--launch.cloud={name}", "--launch.managed=false", S3, *_ASKING[feature])
    said = [line for line in load_backend("skypilot").refusals(plan) if f": no {feature}: " in line]
    if feature in cloud.refusals:
        (line,) = said
        assert line == f"{cloud.title}: no {feature}: {cloud.refusals[feature]}"
        assert len(cloud.refusals[feature]) > 30
    else:
        assert not said


@pytest.mark.parametrize("flags", [("--launch.disk-tier=best",), ("--launch.network-tier=standard",)])
@pytest.mark.parametrize("name", CLOUDS)
def test_a_wish_that_every_cloud_fulfils_is_never_refused(name: str, flags: tuple[str, ...]) -> None:
    plan = plan_of(f"--launch.cloud={name}", "--launch.managed=false", S3, *flags)
    assert load_backend("skypilot").refusals(plan) == []


def test_a_managed_job_needs_machines_that_end_by_themselves() -> None:
    with pytest.raises(FtlError, match=r"Yotta: no machines that end by themselves: .*launch.managed: false") as caught:
        make_request(plan_of("--launch.cloud=yotta", "--launch.accelerators=H100:1", S3))
    assert caught.value.exit_code == 2


def test_machines_that_nobody_ends_are_told_of() -> None:
    def note(*flags: str) -> str | None:
        return CHECKS["machines"](load(*flags, S3), plan_of(*flags, S3), {})

    said = note("--launch.cloud=yotta", "--launch.managed=false")
    assert said == "machines of Yotta stay, and cost, until `ftl down run-1`"
    assert note("--launch.cloud=aws") is None
    assert note("--launch.cloud=slurm") is None


@pytest.mark.parametrize(("written", "infra"), [("digitalocean", "do"), ("vastai", "vast"), ("k8s", "kubernetes")])
def test_other_names_of_clouds(written: str, infra: str) -> None:
    assert find_cloud(written).infra == infra


_COLUMNS = {"spot": Feature.SPOT, "nodes": Feature.MULTI_NODE, "image": Feature.IMAGE, "mounts": Feature.STORAGE_MOUNT}


def test_the_page_says_the_same() -> None:
    rows = [
        line
        for line in (ROOT / "docs/clouds.md").read_text().splitlines()
        if line.startswith("| `") and "---" not in line
    ][1:]
    table = {row.split("`")[1]: [cell.strip() for cell in row.strip("|").split("|")] for row in rows}
    assert set(table) == set(CLOUDS)
    extras = set(metadata("skypilot").get_all("Provides-Extra") or ())
    for name, (_, extra, _credentials, *cells) in table.items():
        assert extra.strip("`") in extras
        refused = find_cloud(name).refusals
        for cell, feature in zip(cells, _COLUMNS.values(), strict=False):
            assert cell.startswith("no" if feature in refused else "yes"), (name, feature)
        assert any(place in row for row in rows if f"`{name}`" in row for place in find_cloud(name).credentials)


@pytest.mark.slow
def test_skypilot_logs_in_to_the_registry_of_a_private_image(tmp_path: Path) -> None:
    """The stored task with values, as at submission: they become the login of the image, and are in no text of it."""
    pytest.importorskip("sky")
    code = """
import sys, yaml
import sky
config = yaml.safe_load(open(sys.argv[1]))
secrets = [(name, f"value-of-{name}") for name in config["secrets"]]
(resources,) = sky.Task.from_yaml_config(config, secrets_overrides=secrets).resources
login = resources.docker_login_config
print(resources.extract_docker_image(), login.username, login.password, login.server)
"""
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    path = ROOT / "tests/golden/skypilot/private-image.yaml"
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=env, capture_output=True, text=True)
    assert done.stdout.split()[-4:] == [
        "registry.example.com/team/ftl:1.2.3",
        *(f"value-of-SKYPILOT_DOCKER_{name}" for name in ("USERNAME", "PASSWORD", "SERVER")),
    ], done.stderr[-3000:]
