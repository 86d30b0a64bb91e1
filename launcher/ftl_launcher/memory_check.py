"""Before a machine is rented: whether the config fits into the memory of its GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError
from ftl_config.protocol import ExitCode
from ftl_launcher.accelerators import parse_accelerators
from ftl_launcher.console import say
from ftl_launcher.host import detected_gpus

if TYPE_CHECKING:
    from ftl_config import Config, LoadedConfig
    from ftl_config.memory.devices import Device
    from ftl_config.memory.estimate import Estimate
    from ftl_launcher.plan import RunPlan

TIGHT = 0.9
"""Share of a device from which `ftl launch` says that it is near."""
REFUSED = 1.15
"""Share from which it refuses; between 1 and this the estimate may be wrong."""


def choose_device(config: Config, gpu: str | None) -> tuple[Device, int]:
    """The device to estimate for and how many the run has: ``--gpu``, ``launch.accelerators``, or this machine's.

    Raises:
        FtlError: a name whose memory is not known, or a machine that does not tell.
    """
    from ftl_config.memory.devices import cpu_device, parse_device

    if gpu is not None and gpu.lower() == "cpu":
        return cpu_device(_machine_memory()), 1
    if gpu is not None:
        device, count = parse_device(gpu)
        return device, count * config.launch.nodes
    accelerators = parse_accelerators(config.launch.accelerators)
    if accelerators:
        device, count = parse_device(str(accelerators[0]))
        return device, count * config.launch.nodes
    if detected_gpus():
        return _own_gpu(), detected_gpus()
    return cpu_device(_machine_memory()), 1


def predict(config: Config, model_config: Mapping[str, Any], device: Device, num_devices: int) -> Estimate:
    """The estimate of a config whose paths start from the current folder."""
    from ftl_config.memory.estimate import estimate

    return estimate(config, model_config, device, num_devices, root=Path())


def check_memory(loaded: LoadedConfig, plan: RunPlan) -> None:
    """Compare the predicted peak with every GPU that the plan names; silent where nothing can be known.

    Raises:
        FtlError: exit code 10, with the three most effective keys, where it is more than 1.15 times what one has.
    """
    from ftl_config.memory.devices import known_device
    from ftl_config.memory.model_config import read_model_config

    devices = [(accelerator, known_device(accelerator.name)) for accelerator in plan.resources.accelerators]
    if not any(device for _, device in devices):
        return
    try:
        model_config = read_model_config(loaded.config, Path())
        for accelerator, device in devices:
            if device is not None:
                _compare(loaded, model_config, device, plan.num_workers, str(accelerator))
    except FtlError as error:
        if error.exit_code == ExitCode.OUT_OF_MEMORY:
            raise
        say(f"note: memory was not estimated: {error.message}")


def _compare(
    loaded: LoadedConfig, model_config: Mapping[str, Any], device: Device, num_devices: int, name: str
) -> None:
    from ftl_config.memory.advice import advise
    from ftl_config.memory.estimate import gib

    found = predict(loaded.config, model_config, device, num_devices)
    if found.share <= TIGHT:
        return
    message = f"training needs about {gib(found.peak_bytes)} a GPU, and {name} has {gib(device.memory_bytes)}"
    advice = "; or ".join(map(str, advise(loaded, model_config, found)))
    if found.share > REFUSED:
        hint = f"set {advice}; " if advice else ""
        raise FtlError(
            message,
            f"{hint}`ftl estimate` shows the parts, and --skip-memory-check launches it all the same",
            exit_code=ExitCode.OUT_OF_MEMORY,
        )
    say(f"warning: {message}" + (f"\n  if memory runs out: {advice}" if advice else ""))


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _own_gpu() -> Device:
    """The smallest GPU of this machine, as NVIDIA's tool names it.

    Raises:
        FtlError: there is no such tool.
    """
    from ftl_config.memory.devices import MIB, Device

    tool = shutil.which("nvidia-smi")
    query = ["--query-gpu=memory.total,name", "--format=csv,noheader,nounits"]
    lines = subprocess.run([tool, *query], capture_output=True, text=True).stdout.splitlines() if tool else []
    sizes = [(int(size), name.strip()) for size, _, name in (line.partition(",") for line in lines) if size.isdigit()]
    if not sizes:
        raise FtlError("the memory of this machine's GPUs is not known", "name one: --gpu A100-80GB:8", exit_code=2)
    size, name = min(sizes)
    return Device(name, size * MIB)
