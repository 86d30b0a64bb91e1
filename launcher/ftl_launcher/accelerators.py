"""Accelerators as users write them (``H100:8``, a list, a mapping) and what follows from their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ftl_config.errors import FtlError


class Vendor(StrEnum):
    """Whose software stack the image needs."""

    NVIDIA = "nvidia"
    AMD = "amd"
    CPU = "cpu"


@dataclass(frozen=True)
class Accelerator:
    """``count`` accelerators of one kind on each node."""

    name: str
    count: int

    def __str__(self) -> str:
        return f"{self.name}:{self.count}"

    @property
    def vendor(self) -> Vendor:
        """AMD's Instinct and Radeon lines by their names; everything else that clouds rent out is NVIDIA."""
        return Vendor.AMD if _AMD_NAME.match(self.name) else Vendor.NVIDIA


_AMD_NAME = re.compile(r"(?i)(amd[-_ ]?)?(instinct[-_ ]?)?(MI\d{2,3}|radeon|RX\d|W7\d00)")
_SHAPE = re.compile(r"([A-Za-z][\w.-]*)(?::(\d+))?")


def parse_accelerators(value: Any) -> tuple[Accelerator, ...]:
    """The candidates in order of preference.

    Raises:
        FtlError: something in it is not ``NAME`` or ``NAME:COUNT``, or candidates mix vendors.
    """
    found = tuple(_parse_one(name, count) for name, count in _pairs(value))
    if len({accelerator.vendor for accelerator in found}) > 1:
        names = ", ".join(map(str, found))
        raise FtlError(
            f"launch.accelerators mixes NVIDIA and AMD ({names}): one image serves one vendor",
            hint="launch them as two runs",
            exit_code=2,
        )
    return found


def vendor_of(accelerators: Sequence[Accelerator]) -> Vendor:
    """The one vendor of all candidates; CPU without any."""
    return accelerators[0].vendor if accelerators else Vendor.CPU


def _pairs(value: Any) -> list[tuple[str, Any]]:
    if value is None:
        return []
    if isinstance(value, str):
        return [(part.strip(), None) for part in value.split(",") if part.strip()]
    if isinstance(value, Mapping):
        return [(str(name), count) for name, count in value.items()]
    return [pair for item in value for pair in _pairs(item)]


def _parse_one(text: str, count: Any) -> Accelerator:
    match = _SHAPE.fullmatch(text)
    number = count if count is not None else (match[2] if match else None)
    if match is None or not str(1 if number is None else number).isdigit() or str(number) == "0":
        raise FtlError(
            f"launch.accelerators: {text!r} is not an accelerator and its count",
            hint='write for example "H100:8", or a list of candidates ["H100:8", "A100-80GB:8"]',
            exit_code=2,
        )
    return Accelerator(match[1], int(number or 1))
