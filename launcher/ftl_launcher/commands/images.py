"""``ftl images``: build, list and check the container images that nodes run."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click

from ftl_config.errors import FtlError
from ftl_launcher.commands.options import json_option
from ftl_launcher.console import make_console, print_json, say
from ftl_launcher.images import (
    LOCK_HASH_LABEL,
    BuildOptions,
    Flavour,
    build_command,
    build_context,
    choose_builder,
    find_flavour,
    flavours,
    host_certificate,
)

_ENGINES = ("docker", "podman")
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def images() -> None:
    """Build, list and check the container images that nodes run."""


@images.command()
@click.option("--flavour", default="cuda", show_default=True, help="cuda, rocm or cpu.")
@click.option("--push", "push_to", metavar="REF", help="Tag the image REF, and push it there.")
@click.option("--builder", metavar="NAME", help="docker, podman or buildah; the first that is installed.")
@click.option("--base-image", metavar="REF", help="In place of the one in images/matrix.toml.")
@click.option("--flash-attention", metavar="VERSION", help="Compile FlashAttention too: an hour or more.")
@click.option("--wheels", metavar="DIR", help="Folder of wheels to take before those of an index.", type=_FOLDER)
@click.option("--print", "only_print", is_flag=True, help="Print the command, build nothing.")
def build(
    flavour: str,
    push_to: str | None,
    builder: str | None,
    base_image: str | None,
    flash_attention: str | None,
    wheels: Path | None,
    only_print: bool,
) -> int:
    """Build a flavour from this checkout, under the name that `ftl launch` looks for."""
    chosen = find_flavour(flavour)
    program = builder if only_print and builder else choose_builder(builder)
    context = build_context()
    options = BuildOptions(
        builder=program,
        reference=chosen.reference,
        base_image=base_image,
        flash_attention=flash_attention,
        revision=_revision(context),
        certificate=host_certificate(),
        wheels=wheels and wheels.absolute(),
    )
    argv = build_command(chosen, options, context)
    commands = [argv, *([[program, "tag", chosen.reference, push_to], [program, "push", push_to]] if push_to else [])]
    if only_print:
        for command in commands:
            click.echo(shlex.join(command))
        return 0
    for command in commands:
        _run(command)
    say(f"image {push_to or chosen.reference}")
    return 0


@images.command(name="list")
@json_option
def list_(as_json: bool) -> int:
    """Every flavour: what it is made of, what it is called, and whether it is on this machine."""
    rows = [_row(flavour) for flavour in flavours().values()]
    if as_json:
        print_json(rows)
        return 0
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("flavour", "for", "base", "torch", "image", "here"):
        table.add_column(name, overflow="fold")
    for row in rows:
        here = f"{row['size_mb']} MB" if row["size_mb"] is not None else "no"
        table.add_row(row["flavour"], row["title"], row["base_image"], row["torch"], row["image"], here)
    make_console().print(table)
    return 0


@images.command()
@click.argument("reference", metavar="REF")
@json_option
def check(reference: str, as_json: bool) -> int:
    """Compare the image REF with this ftl: the same locked versions, or an error that says what to do."""
    labels = _labels(reference)
    name, found = labels.get("ftl.flavour", ""), labels.get(LOCK_HASH_LABEL)
    if found is None:
        raise FtlError(
            f"{reference} is no image of ftl's: it has no label {LOCK_HASH_LABEL}",
            hint="build one with `ftl images build`, or start your Dockerfile FROM one",
            exit_code=2,
        )
    flavour = find_flavour(name)
    fits = found == flavour.lock_hash
    if as_json:
        print_json({"image": reference, "flavour": name, "lock_hash": found, "wanted": flavour.lock_hash, "fits": fits})
    if not fits:
        version = labels.get("org.opencontainers.image.version", "another version")
        raise FtlError(
            f"{reference} was built by ftl {version} from other versions (lock {found}, this ftl has "
            f"{flavour.lock_hash})",
            hint=f"build it anew: `ftl images build --flavour {name}`; or install the ftl that built it",
            exit_code=2,
        )
    if not as_json:
        say(f"{reference}: flavour {name}, lock {found}, as this ftl has them")
    return 0


def _row(flavour: Flavour) -> dict[str, Any]:
    size = _size_bytes(flavour.reference)
    return {
        "flavour": flavour.name,
        "title": flavour.title,
        "base_image": flavour.base_image,
        "python": flavour.python,
        "torch": flavour.torch,
        "lock_hash": flavour.lock_hash,
        "image": flavour.reference,
        "size_mb": None if size is None else round(size / 1e6),
    }


def _size_bytes(reference: str) -> int | None:
    found = _inspect(reference)
    return None if found is None else int(found.get("Size") or 0)


def _labels(reference: str) -> dict[str, str]:
    """Labels of an image of this machine, else of a registry's (by skopeo, where that is installed)."""
    if (found := _inspect(reference)) is not None:
        return dict((found.get("Config") or {}).get("Labels") or found.get("Labels") or {})
    if shutil.which("skopeo"):
        asked = _ask(["skopeo", "inspect", f"docker://{reference}"])
        if asked is not None:
            return dict(json.loads(asked).get("Labels") or {})
    raise FtlError(f"no image {reference} on this machine", hint="pull it first, or build it: `ftl images build`")


def _inspect(reference: str) -> dict[str, Any] | None:
    for engine in filter(shutil.which, _ENGINES):
        if (asked := _ask([engine, "image", "inspect", reference])) is not None:
            found: dict[str, Any] = json.loads(asked)[0]
            return found
    return None


def _ask(argv: list[str]) -> str | None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def _run(argv: list[str]) -> None:
    if subprocess.run(argv, check=False, env={**os.environ, "DOCKER_BUILDKIT": "1"}).returncode:
        raise FtlError(f"{argv[0]} {argv[1]} failed; its own words are above")


def _revision(context: Path) -> str:
    """The checkout's commit; ``-dirty`` where files were changed since."""
    commit = _ask(["git", "-C", str(context), "rev-parse", "--short=12", "HEAD"])
    if commit is None:
        return "unknown"
    dirty = _ask(["git", "-C", str(context), "status", "--porcelain"])
    return commit.strip() + ("-dirty" if dirty else "")
