"""``ftl images``: build, list and check the container images that nodes run."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click

from ftl_config.errors import FtlError
from ftl_launcher.commands.options import json_option
from ftl_launcher.console import make_console, print_json, say
from ftl_launcher.image_inspection import ask, check_labels, image_labels, image_size
from ftl_launcher.images import (
    BuildOptions,
    Flavour,
    build_command,
    build_context,
    choose_builder,
    find_flavour,
    flavours,
    host_certificate,
)

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
    labels = image_labels(reference)
    if labels is None:
        raise FtlError(f"no image {reference} on this machine", hint="pull it first, or build it: `ftl images build`")
    flavour = check_labels(reference, labels)
    if as_json:
        print_json({"image": reference, "flavour": flavour.name, "lock_hash": flavour.lock_hash, "fits": True})
    else:
        say(f"{reference}: flavour {flavour.name}, lock {flavour.lock_hash}, as this ftl has them")
    return 0


def _row(flavour: Flavour) -> dict[str, Any]:
    size = image_size(flavour.reference)
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


def _run(argv: list[str]) -> None:
    if subprocess.run(argv, check=False, env={**os.environ, "DOCKER_BUILDKIT": "1"}).returncode:
        raise FtlError(f"{argv[0]} {argv[1]} failed; its own words are above")


def _revision(context: Path) -> str:
    """The checkout's commit; ``-dirty`` where files were changed since."""
    commit = ask(["git", "-C", str(context), "rev-parse", "--short=12", "HEAD"])
    if commit is None:
        return "unknown"
    dirty = ask(["git", "-C", str(context), "status", "--porcelain"])
    return commit.strip() + ("-dirty" if dirty else "")
