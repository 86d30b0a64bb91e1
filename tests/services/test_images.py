"""The image for CPUs, really built from the Dockerfile and really run: alone, extended, and by `ftl launch`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ftl_launcher.images import find_flavour, host_certificate
from tests.conformance.runs import ConformingRuns, Place
from tests.e2e.ftl_cli import Ftl, losses, write_config
from tests.full_matrix import full_matrix
from tests.services.containers import BASE, Containers, cannot_run, running_containers, torch_wheel
from tests.services.ray_cluster import STANDIN

pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(cannot_run() is not None, reason=str(cannot_run())),
    full_matrix,
]

MAX_BYTES = 2.5e9
"""The size budget of docs/images.md."""


@dataclass(frozen=True)
class Built:
    """The engines and the image in their storage."""

    engines: Containers
    reference: str

    def run(self, *command: str, options: tuple[str, ...] = ()) -> str:
        argv = ("podman", "run", "--rm", "--network=none", *options, self.reference, *command)
        return self.engines.call(*argv, timeout_s=120).stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("containers")
    with running_containers(folder) as engines:
        wheels = torch_wheel(folder / "wheels")
        ftl = Ftl(folder / "home", folder, engines.environment)
        options = ["--base-image", BASE, *(["--wheels", str(wheels)] if wheels else [])]
        ftl.run("images", "build", "--flavour", "cpu", "--builder", "buildah", *options, timeout_s=1500)
        yield Built(engines, find_flavour("cpu").reference)


def test_it_is_small_labelled_and_clean(image: Built) -> None:
    found = json.loads(image.engines.call("podman", "image", "inspect", image.reference).stdout)[0]
    assert found["Size"] < MAX_BYTES
    labels = found["Config"]["Labels"]
    assert labels["ftl.flavour"] == "cpu"
    assert labels["ftl.lock-hash"] == find_flavour("cpu").lock_hash
    assert {"org.opencontainers.image.version", "org.opencontainers.image.revision"} <= set(labels)
    assert not [line for line in found["Config"]["Env"] if "CERT" in line or "SECRET" in line]
    wanted_gone = r"sudo find / -xdev \( -path '*/.cache/*' -o -name '*.deb' -o -name ca.crt \) -print"
    left = image.run("bash", "-c", wanted_gone)
    assert left == ""


def test_it_has_what_skypilot_and_people_need(image: Built) -> None:
    tools = [
        "bash",
        "rsync",
        "curl",
        "ssh",
        "sshd",
        "sudo",
        "patch",
        "fusermount",
        "ps",
        "tini",
        "git",
        "g++",
        "ftl",
        "ftl-runner",
    ]
    found = image.run("bash", "-c", f"PATH=$PATH:/usr/sbin; command -v {' '.join(tools)}").split()
    assert [Path(path).name for path in found] == tools
    assert image.run("bash", "-c", "id -u; sudo -n id -u").split() == ["1200", "0"]
    packages = {entry["name"] for entry in json.loads(image.run("cat", "/opt/ftl/sbom-python.json"))}
    assert {"torch", "ray", "deepspeed", "ftl-tune"} <= packages
    assert "openssh-server" in image.run("cat", "/opt/ftl/sbom-debian.txt")


def test_ssh_opens_where_a_key_is_given_and_only_there(image: Built) -> None:
    asked = ("bash", "-c", "cat ~/.ssh/authorized_keys 2>/dev/null; pgrep -x sshd | wc -l")
    assert image.run(*asked).split() == ["0"]
    assert image.run(*asked, options=("--env=PUBLIC_KEY=ssh-ed25519 AAAA me",)).split() == [
        "ssh-ed25519",
        "AAAA",
        "me",
        "1",
    ]


def test_check_tells_a_fitting_image_from_another(image: Built, tmp_path: Path) -> None:
    ftl = Ftl(tmp_path / "home", tmp_path, image.engines.environment)
    assert json.loads(ftl.run("images", "check", image.reference, "--json").stdout)["flavour"] == "cpu"
    (tmp_path / "Dockerfile").write_text(f"FROM {image.reference}\nRUN touch /workspace/mine\nLABEL mine=1\n")
    image.engines.call("buildah", "build", "--format=docker", "--tag=localhost/mine:1", str(tmp_path))
    assert "as this ftl has them" in ftl.run("images", "check", "localhost/mine:1").stderr
    (tmp_path / "Dockerfile").write_text(f"FROM {image.reference}\nLABEL ftl.lock-hash=000000000000\n")
    image.engines.call("buildah", "build", "--format=docker", "--tag=localhost/old:1", str(tmp_path))
    old = ftl.run("images", "check", "localhost/old:1", check=False)
    assert old.returncode == 2
    assert "lock 000000000000" in old.stderr
    assert "ftl images build --flavour cpu" in old.stderr
    foreign = ftl.run("images", "check", BASE, check=False)
    assert foreign.returncode == 2
    assert "no image of ftl's" in foreign.stderr


def test_a_launch_in_a_container_ends_as_one_without(
    image: Built, tiny_model: Path, small_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "tiny")
    shutil.copy(small_data, tmp_path / "train.jsonl")
    settings: dict[str, Any] = {
        "base_model": "./tiny",
        "datasets": [{"path": "train.jsonl", "type": "chat_template"}],
        "sequence_len": 512,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "max_steps": 6,
        "save_steps": 3,
        "learning_rate": 1e-3,
        "optimizer": "adamw_torch",
        "logging_steps": 1,
        "ray_num_workers": 2,
        "generate_samples": False,
    }
    ftl = Ftl(tmp_path / "home", tmp_path, {**image.engines.environment, "PLANTED": "planted-value-7Hq"})
    # A package more, installed in the container when the run starts, and this machine's certificates for that.
    extras = {"podman": {"image": {"extra_packages": ["einops==0.8.1"]}, **certificates()}}
    ended = {}
    for cloud in ("podman", "local"):
        keys = {**settings, "output_dir": f"./{cloud}", "launch": {"cloud": cloud, **extras.get(cloud, {})}}
        config = write_config(tmp_path / f"{cloud}.yml", keys)
        # --ipc=host shares this machine's /dev/shm, so Ray has what it asks for.
        ftl.run("launch", str(config), "--name", f"in-{cloud}", "--secret", "PLANTED", timeout_s=600)
        ended[cloud] = ftl.status(f"in-{cloud}")
    assert ended["podman"]["handle"] == "docker://podman/ftl-in-podman-1"
    for name in ("state", "exit_code"):
        assert ended["podman"][name] == ended["local"][name]
    assert "einops" in added_packages(ftl, "in-podman")
    assert losses(tmp_path / "podman") == pytest.approx(losses(tmp_path / "local"), rel=1e-5)
    assert "planted-value-7Hq" not in ftl.run("render", str(tmp_path / "podman.yml"), "--secret", "PLANTED").stdout

    before = ftl.run("logs", "in-podman").stdout
    for _ in range(2):  # what is gone already is no error
        ftl.run("down", "in-podman", "--yes")
    assert ftl.run("logs", "in-podman").stdout == before, "kept when the container goes"
    assert image.engines.call("podman", "ps", "--all", "--quiet").stdout == ""
    assert ftl.status("in-podman")["state"] == "succeeded"


class TestConformance(ConformingRuns):
    @pytest.fixture
    def place(self, image: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
        for name, value in image.engines.environment.items():
            monkeypatch.setenv(name, value)
        launch = {"cloud": "podman", "file_mounts": f"{{{STANDIN}: {STANDIN}}}"}
        return Place(launch, str(tmp_path / "checkpoints"), tmp_path, env={"PYTHONPATH": str(STANDIN)})


def certificates() -> dict[str, Any]:
    """Keys of the launch section that take along the CA bundle that this machine's pip uses."""
    bundle = host_certificate()
    if bundle is None:
        return {}
    return {"file_mounts": {"/run/host-ca.crt": bundle}, "env": {"SSL_CERT_FILE": "/run/host-ca.crt"}}


def added_packages(ftl: Ftl, run: str) -> str:
    """The layer that a container wrote, as its engine tells it."""
    container = ftl.status(run)["handle"].rsplit("/", 1)[-1]
    diff = subprocess.run(["podman", "diff", container], env=ftl.env(), capture_output=True, text=True, check=True)
    return diff.stdout
