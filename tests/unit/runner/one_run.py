"""A whole run in this process: the method that the configuration names, with its events collected."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from ftl_config import load_text
from ftl_config.protocol import Event
from ftl_runner.context import Outcome, TrainJob
from ftl_runner.stop import StopSignal
from ftl_runner.train import train


@dataclass(frozen=True)
class Run:
    """What is left of a run."""

    outcome: Outcome
    folder: Path
    warnings: list[str]

    @property
    def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "metrics.json").read_text())
        return found

    def history(self, name: str) -> list[float]:
        """The values of one figure, in the order of steps."""
        return [row[name] for row in self.metrics["history"] if name in row]


def run_once(
    settings: Mapping[str, Any], *, resume: bool = False, stop_at: int | None = None, store: Path | None = None
) -> Run:
    """Train as ``ftl-runner`` does on one rank; ``stop_at`` asks it to stop as a signal would, at that step's event.

    Checkpoints are in the output folder too, or in ``store``.
    """
    stop, warnings = StopSignal(), list[str]()

    def take(event: Event) -> None:
        if event.type == "warning":
            warnings.append(event["message"])
        if event.type == "step" and stop_at is not None and event["step"] >= stop_at:
            stop.request()

    before, threads = os.getcwd(), torch.get_num_threads()
    torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other
    try:
        loaded, uri = load_text(yaml.safe_dump(dict(settings))), None if store is None else str(store)
        outcome = train(TrainJob(loaded, "run", uri, resume=resume), take, stop)
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)
    return Run(outcome, Path(str(settings["output_dir"])), warnings)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
