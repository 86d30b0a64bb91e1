"""`ftl images`, as far as no engine is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ftl_launcher import cli
from ftl_launcher.accelerators import Vendor
from ftl_launcher.images import BuildOptions, build_command, find_flavour, flavour_for, flavours
from tests.services.s3 import ROOT

GOLDEN = ROOT / "tests/golden/images"


@pytest.mark.parametrize("name", list(flavours()))
@pytest.mark.parametrize("builder", ["docker", "buildah"])
def test_build_command_is_as_stored(name: str, builder: str, request: pytest.FixtureRequest) -> None:
    options = BuildOptions(builder=builder, reference="ftl:test", revision="0123456789ab", certificate="/etc/ca.crt")
    lines = build_command(find_flavour(name), options, Path("/checkout"))
    # The hash is that of this checkout's locks; what it depends on has a test of its own.
    text = "\n".join(line for line in lines if "LOCK_HASH" not in line and "VERSION=" not in line) + "\n"
    path = GOLDEN / f"{name}-{builder}.txt"
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_the_tag_follows_everything_that_is_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = find_flavour("cpu")
    assert cpu.reference.startswith("ftl:cpu-")
    assert cpu.reference.endswith(cpu.lock_hash)
    assert cpu.lock_hash == find_flavour("cpu").lock_hash
    others = [replace(cpu, base_image="other"), replace(cpu, torch="cu130"), replace(cpu, build_packages="")]
    assert len({cpu.lock_hash, *(other.lock_hash for other in others)}) == 4
    before = cpu.lock_hash
    monkeypatch.setattr("ftl_launcher.images.ftl_version", lambda: "9.9.9")
    assert cpu.lock_hash != before


@pytest.mark.parametrize(("vendor", "flavour"), [(Vendor.NVIDIA, "cuda"), (Vendor.AMD, "rocm"), (Vendor.CPU, "cpu")])
def test_every_vendor_has_an_image(vendor: Vendor, flavour: str) -> None:
    assert flavour_for(vendor) == find_flavour(flavour)


def test_print_builds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--builder", "docker", "--flavour", "rocm", "--push", "ghcr.io/me/f:1"]
    assert cli.run(["images", "build", *options, "--print"]) == 0
    build, tag, push = capsys.readouterr().out.splitlines()
    assert "--build-arg=TORCH=base" in build
    assert tag == f"docker tag {find_flavour('rocm').reference} ghcr.io/me/f:1"
    assert push == "docker push ghcr.io/me/f:1"


def test_unknown_flavour(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["images", "build", "--flavour", "cud", "--print"]) == 2
    assert "did you mean cuda?" in capsys.readouterr().err


def test_list_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert cli.run(["images", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["flavour"] for row in rows] == ["cuda", "rocm", "cpu"]
    assert all(row["size_mb"] is None for row in rows)


def test_without_a_builder(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert cli.run(["images", "build"]) == 2
    assert "docker, podman, buildah" in capsys.readouterr().err
