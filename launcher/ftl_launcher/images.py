"""Our container images: which flavours there are, what one is called, and how it is built.

The tag of an image holds a hash over everything that its content follows from: locked versions, the matrix's row, our
own version. The launcher works out the same hash, so image and launcher cannot drift apart unseen.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftl_config.assets import asset_path
from ftl_config.errors import FtlError
from ftl_launcher.accelerators import Vendor
from ftl_launcher.suggestions import suggest
from ftl_launcher.versions import ftl_version

if TYPE_CHECKING:
    from ftl_launcher.plan import RunPlan

BUILDERS = ("docker", "podman", "buildah")
LOCK_HASH_LABEL = "ftl.lock-hash"
REPOSITORY = "ftl"

_BY_VENDOR = {Vendor.NVIDIA: "cuda", Vendor.AMD: "rocm", Vendor.CPU: "cpu"}


@dataclass(frozen=True)
class Flavour:
    """A row of images/matrix.toml."""

    name: str
    title: str
    base_image: str
    python: str
    torch: str
    """An index of PyTorch's (cu130, cpu), or ``base``: the one in the base image."""
    build_packages: str

    @property
    def requirements(self) -> Path:
        """The lock file of everything beside torch."""
        return asset_path(f"images/{self.name}/requirements.txt")

    @property
    def lock_hash(self) -> str:
        """12 hex digits over what the image's content follows from."""
        digest = hashlib.sha256()
        for part in (ftl_version(), self.base_image, self.python, self.torch, self.build_packages):
            digest.update(part.encode() + b"\0")
        for path in (asset_path("images/torch.txt"), self.requirements):
            digest.update(path.read_bytes() + b"\0")
        return digest.hexdigest()[:12]

    def locked_version(self, package: str) -> str:
        """The version of a package that the image has."""
        lines = self.requirements.read_text(encoding="utf-8").splitlines()
        return next(line.split("==")[1].split()[0] for line in lines if line.startswith(f"{package}=="))

    @property
    def reference(self) -> str:
        """``ftl:cpu-0.1.0-3f2a...``: what `ftl images build` calls it."""
        return f"{REPOSITORY}:{self.name}-{ftl_version().replace('+', '-')}-{self.lock_hash}"


def flavours() -> dict[str, Flavour]:
    """All of them, in the order of the matrix."""
    rows = tomllib.loads(asset_path("images/matrix.toml").read_text(encoding="utf-8"))
    return {name: Flavour(name=name, **row) for name, row in rows.items()}


def find_flavour(name: str) -> Flavour:
    """The flavour of that name.

    Raises:
        FtlError: there is none; the hint names a close match or all.
    """
    known = flavours()
    if name not in known:
        raise FtlError(f"unknown image flavour {name!r}", hint=suggest(name, known), exit_code=2)
    return known[name]


def flavour_for(vendor: Vendor) -> Flavour:
    """Our image for accelerators of a vendor."""
    return find_flavour(_BY_VENDOR[vendor])


def image_of(plan: RunPlan) -> str:
    """The image that a plan names, or ours for its accelerators."""
    return (plan.image or flavour_for(plan.resources.vendor).reference).removeprefix("docker:")


@dataclass(frozen=True)
class BuildOptions:
    """What a build may be told beside its flavour."""

    builder: str
    reference: str
    base_image: str | None = None
    flash_attention: str | None = None
    revision: str = "unknown"
    certificate: str | None = None
    """A CA bundle for the build's downloads, handed over as a secret: in no layer."""
    wheels: Path | None = None
    """A folder of wheels that are taken before those of an index; torch only from there, where it has one."""


def build_command(flavour: Flavour, options: BuildOptions, context: Path) -> list[str]:
    """The argv that builds a flavour from a checkout."""
    arguments = {
        "BASE_IMAGE": options.base_image or flavour.base_image,
        "FLAVOUR": flavour.name,
        "TORCH": flavour.torch,
        "BUILD_PACKAGES": flavour.build_packages,
        "FLASH_ATTENTION": options.flash_attention or "",
        "LOCK_HASH": flavour.lock_hash,
        "VERSION": ftl_version(),
        "REVISION": options.revision,
    }
    argv = [options.builder, "build"]
    if options.builder != "docker":
        argv += ["--layers", "--format=docker"]  # OCI's format has no SHELL, and podman keeps no layers by itself
    if options.certificate:
        argv.append(f"--secret=id=ca,src={options.certificate}")
    if options.wheels:
        argv.append(f"--build-context=wheels={options.wheels}")
    argv += [f"--build-arg={name}={value}" for name, value in arguments.items() if value]
    return [*argv, f"--tag={options.reference}", f"--file={context / 'Dockerfile'}", str(context)]


def choose_builder(wanted: str | None) -> str:
    """The builder by name, or the first that is installed.

    Raises:
        FtlError: it, or all of them, are missing.
    """
    found = [name for name in BUILDERS if shutil.which(name)]
    if wanted and wanted not in found:
        raise FtlError(f"{wanted} is not installed here", hint=f"installed: {', '.join(found) or 'none'}", exit_code=2)
    if not found:
        raise FtlError("nothing here builds images", hint=f"install one of {', '.join(BUILDERS)}", exit_code=2)
    return wanted or found[0]


def build_context() -> Path:
    """The checkout that images are built from.

    Raises:
        FtlError: ftl was installed from a wheel, which has no Dockerfile.
    """
    root = asset_path("images").parent
    if not (root / "Dockerfile").exists():
        raise FtlError(
            "images are built from a checkout, and this ftl was installed without one",
            hint="clone the repository and call ftl there, or write a Dockerfile FROM a published image",
            exit_code=2,
        )
    return root


def host_certificate() -> str | None:
    """The CA bundle that this machine's pip is told to use, where there is one."""
    path = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    return path if path and Path(path).is_file() else None
