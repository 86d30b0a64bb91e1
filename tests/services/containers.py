"""buildah and podman for tests: storage of their own, settings that do without cgroups of systemd, a base image.

No image registry is asked: the base is made of Debian's packages (debootstrap), as docker.io's `debian` is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BASE = "localhost/base:bookworm"
PACKAGES = ("buildah", "podman", "runc", "debootstrap")

_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=32768:32768"]
netns = "host"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
"""
_STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{0}/storage"\nrunroot = "{0}/run"\n'


def cannot_run() -> str | None:
    """Why no containers can be had here; None where they can."""
    if os.geteuid() != 0:
        return "images are built as root here"
    if not shutil.which("debootstrap") and not shutil.which("apt-get"):
        return "debootstrap is not installed and there is no apt-get"
    return None


@dataclass(frozen=True)
class Containers:
    """Engines with a storage of their own; ``environment`` makes them use it."""

    folder: Path
    environment: Mapping[str, str]

    def call(self, *argv: str, check: bool = True, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            argv, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=timeout_s
        )
        if check and done.returncode:
            raise AssertionError(f"{argv[:3]} -> {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done


@contextmanager
def running_containers(folder: Path) -> Iterator[Containers]:
    """Engines with a Debian base image; containers and images go when the block ends."""
    missing = [name for name in PACKAGES if not shutil.which(name)]
    if missing:
        subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        subprocess.run(
            install, check=True, capture_output=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
    (folder / "containers.conf").write_text(_CONTAINERS)
    (folder / "storage.conf").write_text(_STORAGE.format(folder))
    engines = Containers(
        folder,
        {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
        },
    )
    try:
        _make_base(engines)
        yield engines
    finally:
        engines.call("podman", "rm", "--all", "--force", check=False)
        engines.call("podman", "rmi", "--all", "--force", check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _make_base(engines: Containers) -> None:
    root = engines.folder / "rootfs"
    engines.call("debootstrap", "--variant=minbase", "bookworm", str(root), _mirror())
    for package in (root / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()
    archive = engines.folder / "base.tar"
    engines.call("tar", "-C", str(root), "-cf", str(archive), ".")
    engines.call("podman", "import", "--quiet", str(archive), BASE)
    archive.unlink()
    shutil.rmtree(root)


def _mirror() -> str:
    """Debian's main mirror as this machine's own apt has it."""
    done = subprocess.run(["apt-get", "indextargets", "--format", "$(SITE)"], capture_output=True, text=True)
    sites = [line for line in done.stdout.split() if line.rstrip("/").endswith("/debian")]
    return sites[0] if sites else "http://deb.debian.org/debian"


def torch_wheel(folder: Path) -> Path | None:
    """A folder with the locked torch as a wheel for CPUs, where pip is configured to find one; else None."""
    lock = Path(__file__).resolve().parents[2] / "locks/torch.txt"
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "--requirement"]
    folder.mkdir()
    subprocess.run([*argv, str(lock)], capture_output=True, check=False)
    return folder if list(folder.glob("torch-*+cpu-*.whl")) else None
