"""Names of the DeepSpeed settings that ship with ftl (``templates/deepspeed``)."""

from __future__ import annotations

from ftl_config.suggest import did_you_mean

SHIPPED_NAMES = (
    "zero1.json",
    "zero1_torch_compile.json",
    "zero2.json",
    "zero2_torch_compile.json",
    "zero2_cpuoffload.json",
    "zero3.json",
    "zero3_bf16.json",
    "zero3_bf16_cpuoffload_all.json",
    "zero3_bf16_cpuoffload_params.json",
)
"""Axolotl's names, so that its configs work as they are."""


def shipped_name(value: str) -> str | None:
    """The shipped file that a config's ``deepspeed`` text names, or None for a path of the user's.

    ``zero2``, ``zero2.json`` and ``deepspeed_configs/zero2.json`` (also below another directory) name the same file.
    A file of the user's in that place goes first; whether there is one is the caller's to look up.
    """
    head, _, name = value.rpartition("/")
    name = f"{name.removesuffix('.json')}.json"
    if name not in SHIPPED_NAMES:
        return None
    return name if not head or head.split("/")[-1] == "deepspeed_configs" else None


def missing_hint(value: str) -> str:
    """What to write in place of a file that does not exist."""
    name = value.rpartition("/")[2]
    plain = [shipped.removesuffix(".json") for shipped in SHIPPED_NAMES]
    meant = did_you_mean(name, SHIPPED_NAMES) or did_you_mean(name, plain)
    return meant or f"a path, or one of ours: {', '.join(SHIPPED_NAMES)}"
