"""The Dockerfile and what stands beside it, as far as they can be judged without building."""

from __future__ import annotations

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from ftl_launcher.images import flavours
from tests.services.s3 import ROOT

BIN = Path(sys.executable).parent
FLAVOURS = list(flavours())
PIN = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^\s;]+)", re.MULTILINE)


def instructions(name: str) -> list[str]:
    with (ROOT / "Dockerfile").open("rb") as file:
        parsed = DockerfileParser(fileobj=file)
        return [part["value"] for part in parsed.structure if part["instruction"] == name]


def pins(path: Path) -> dict[str, set[str]]:
    """Versions by name: a lock for several Pythons may hold more than one."""
    found: dict[str, set[str]] = {}
    for name, version in PIN.findall(path.read_text()):
        found.setdefault(name, set()).add(version)
    return found


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([str(BIN / "hadolint"), str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_run_is_shell() -> None:
    runs = [re.sub(r"--mount=\S+\s+", "", run) for run in instructions("RUN")]
    assert len(runs) > 5
    for run in runs:
        done = subprocess.run(["sh", "-n", "-c", run], capture_output=True, text=True)
        assert done.returncode == 0, f"{run}\n{done.stderr}"


def test_what_is_copied_reaches_the_builder() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copies = [copy.split() for copy in instructions("COPY") if "--from" not in copy]
    sources = [word for words in copies for word in words[:-1] if not word.startswith("-")]
    assert len(sources) > 6
    for source in sources:
        assert any(fnmatch(source, allow) or source.startswith(f"{allow}/") for allow in allowed), source
        for flavour in FLAVOURS:
            assert (ROOT / source.replace("${FLAVOUR}", flavour)).exists(), source


def test_the_entrypoint_is_shell_and_executable() -> None:
    entrypoint = ROOT / "images/entrypoint.sh"
    assert subprocess.run(["bash", "-n", str(entrypoint)]).returncode == 0
    assert entrypoint.stat().st_mode & 0o111


def test_compose_is_yaml_with_the_limits_that_collectives_need() -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["ftl"]
    assert service["ipc"] == "host"
    assert service["ulimits"] == {"memlock": -1, "stack": 67108864}
    assert not [line for line in service["environment"] if "=" in line], "secrets by name only"


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_locks_hold_no_torch_and_agree_with_what_is_tested(flavour: str) -> None:
    locked, tested = pins(flavours()[flavour].requirements), pins(ROOT / "locks/dev.txt")
    assert {"transformers", "peft", "ray", "deepspeed", "accelerate", "trl", "boto3", "bitsandbytes"} <= set(locked)
    assert not [name for name in locked if name == "torch" or name.startswith(("nvidia-", "triton"))]
    differing = {name: versions for name, versions in locked.items() if not versions <= tested.get(name, versions)}
    assert differing == {}


def test_torch_is_the_one_that_is_tested() -> None:
    assert (ROOT / "images/torch.txt").read_bytes() == (ROOT / "locks/torch.txt").read_bytes()
