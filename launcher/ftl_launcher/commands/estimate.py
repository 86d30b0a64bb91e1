"""``ftl estimate``: how much memory of a GPU a config takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ftl_config.protocol import ExitCode
from ftl_launcher import configs
from ftl_launcher.commands.options import ConfigCommand, config_arguments, json_option
from ftl_launcher.console import make_console, print_json, say

if TYPE_CHECKING:
    from ftl_config.memory.advice import Advice
    from ftl_config.memory.estimate import Estimate


@click.command(cls=ConfigCommand)
@config_arguments
@click.option(
    "--gpu",
    metavar="NAME[:COUNT]",
    help="GPUs of a node, such as A100-80GB:8; cpu for none. [default: launch.accelerators, else what is here]",
)
@json_option
def estimate(source: str, overrides: tuple[str, ...], allow_unknown: bool, gpu: str | None, as_json: bool) -> int:
    """Predict the peak memory of training CONFIG and what it is made of; exit code 10 if it does not fit."""
    from ftl_config.memory.advice import advise
    from ftl_config.memory.model_config import read_model_config
    from ftl_launcher.memory_check import choose_device, predict

    loaded = configs.load(source, overrides, allow_unknown=allow_unknown)
    device, num_devices = choose_device(loaded.config, gpu)
    model_config = read_model_config(loaded.config, Path())
    found = predict(loaded.config, model_config, device, num_devices)
    advice = advise(loaded, model_config, found)
    if as_json:
        print_json(as_dict(found, advice))
    else:
        _print(found, advice)
    return 0 if found.share <= 1 else int(ExitCode.OUT_OF_MEMORY)


def as_dict(found: Estimate, advice: list[Advice]) -> dict[str, Any]:
    """The estimate for machines; bytes in ``*_bytes``."""
    return {
        "peak_bytes": round(found.peak_bytes),
        "device": found.device.name,
        "device_bytes": found.device.memory_bytes,
        "num_devices": found.num_devices,
        "fits": found.share <= 1,
        "parameters": found.num_parameters,
        "trained_parameters": found.num_trained,
        "sharding": found.sharding,
        "parts_bytes": {part.name: round(part.num_bytes) for part in found.parts},
        "advice": [
            {
                "changes": dict(one.changes),
                "peak_bytes": round(one.peak_bytes),
                "saved_bytes": round(one.saved_bytes),
                "side_effect": one.side_effect,
            }
            for one in advice
        ],
        "notes": list(found.notes),
    }


def _print(found: Estimate, advice: list[Advice]) -> None:
    from rich.table import Table

    from ftl_config.memory.estimate import gib
    from ftl_launcher import formats

    table = Table(title=f"memory of each {found.device.name}")
    table.add_column("part")
    table.add_column("size", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    for part in found.parts:
        table.add_row(part.name, gib(part.num_bytes), f"{part.num_bytes / found.peak_bytes:.0%}", part.note)
    table.add_section()
    table.add_row("peak", gib(found.peak_bytes), f"{found.share:.0%} of {gib(found.device.memory_bytes)}", "")
    console = make_console()
    console.print(table)
    batch = found.batch
    console.print(
        f"{formats.count(found.num_trained)} of {formats.count(found.num_parameters)} parameters trained, "
        f"{batch.rows} x {batch.length} tokens at a time, {found.num_devices} x {found.device.name} ({found.sharding})"
    )
    console.print(verdict(found))
    if advice:
        console.print("What would save most, each by itself:")
    for number, one in enumerate(advice, 1):
        console.print(f"  {number}. {one}", markup=False)
    for note in found.notes:
        say(f"note: {note}")


def verdict(found: Estimate) -> str:
    """One sentence; the limits are those of ``ftl launch``."""
    from ftl_launcher.memory_check import TIGHT

    if found.share > 1:
        return "It does not fit."
    return "It fits, and leaves little room." if found.share > TIGHT else "It fits."
