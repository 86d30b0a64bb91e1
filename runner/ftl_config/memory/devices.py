"""Memory of accelerators, by the names that SkyPilot gives them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ftl_config.errors import BAD_CONFIG_EXIT_CODE, FtlError
from ftl_config.suggest import did_you_mean

MIB = 2**20
GIB = 2**30

_MEMORY_MIB = {
    "A10": 23028,
    "A100": 40960,
    "A100-80GB": 81920,
    "A10G": 23028,
    "A40": 46068,
    "B200": 183359,
    "GH200": 97871,
    "H100": 81559,
    "H100-MEGA": 81559,
    "H100-SXM": 81559,
    "H200": 143771,
    "K80": 11441,
    "L4": 23034,
    "L40": 46068,
    "L40S": 46068,
    "MI100": 32752,
    "MI210": 65520,
    "MI250": 65520,
    "MI250X": 65520,
    "MI300X": 196592,
    "MI325X": 262128,
    "P100": 16276,
    "RTX3090": 24576,
    "RTX4090": 24564,
    "RTX5090": 32607,
    "RTX6000-Ada": 49140,
    "RTXA4000": 16376,
    "RTXA5000": 24564,
    "RTXA6000": 49140,
    "T4": 15360,
    "V100": 16384,
    "V100-32GB": 32768,
}
"""What the driver reports, in MiB. MI250 and MI250X: one of the two dies, each of which is a device of its own."""

_WITHOUT_BF16 = frozenset({"K80", "P100", "T4", "V100", "V100-32GB"})
_BY_LOWER = {name.lower(): name for name in _MEMORY_MIB}


@dataclass(frozen=True, slots=True)
class Device:
    """What one training process computes on."""

    name: str
    memory_bytes: int
    is_gpu: bool = True
    has_bf16: bool = True

    @property
    def is_amd(self) -> bool:
        return self.name.startswith("MI")


def known_device(name: str) -> Device | None:
    """The device of that name, whatever its case; None where its memory is not known."""
    found = _BY_LOWER.get(name.lower())
    if found is None:
        return None
    return Device(found, _MEMORY_MIB[found] * MIB, has_bf16=found not in _WITHOUT_BF16)


def parse_device(text: str) -> tuple[Device, int]:
    """``A100-80GB:8`` as a device and how many.

    Raises:
        FtlError: no such name, or no count behind the colon.
    """
    match = re.fullmatch(r"([\w.-]+)(?::([1-9]\d*))?", text.strip())
    if match is None:
        raise FtlError(f"--gpu {text!r} is not a GPU and a count", "write A100-80GB:8", BAD_CONFIG_EXIT_CODE)
    device = known_device(match[1])
    if device is None:
        hint = did_you_mean_gpu(match[1]) or f"known are {', '.join(_MEMORY_MIB)}"
        raise FtlError(f"--gpu: the memory of {match[1]!r} is not known", hint, BAD_CONFIG_EXIT_CODE)
    return device, int(match[2] or 1)


def did_you_mean_gpu(name: str) -> str | None:
    """The closest name as a hint, in the spelling that clouds use."""
    hint = did_you_mean(name.replace("-", "_"), [known.replace("-", "_") for known in _BY_LOWER])
    if hint is None:
        return None
    lower = hint.split("`")[1].replace("_", "-")
    return f"did you mean `{_BY_LOWER[lower]}`?"


def cpu_device(memory_bytes: int) -> Device:
    """A machine without accelerators."""
    return Device("CPU", memory_bytes, is_gpu=False)
