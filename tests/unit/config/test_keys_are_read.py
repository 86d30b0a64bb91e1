"""A key that is called implemented is read by somebody: no key is silently ignored."""

from __future__ import annotations

import ast
from pathlib import Path

from ftl_config.axolotl import table
from ftl_config.keys import ATTRIBUTE_NAMES
from ftl_config.schema.data import DatasetSpec
from ftl_config.schema.launch import LaunchSection

ROOT = Path(__file__).resolve().parents[3]

READ_BY_THE_CONTRACT = {"beta", "fsdp_version", "peft", "rl_beta"}
"""Read by properties of the sections: ``loftq_bits``, ``beta_or``, ``fsdp_key``."""

READ_BY_THE_SECTION = {"file_mounts"}
"""``launch.mount_sources`` and ``launch.mount_modes``."""

READ_BY_NAME = "runner/ftl_runner/trainer/trackers.py"
"""Reads keys through ``getattr``, from tables of their names."""


def names_that_are_read() -> set[str]:
    """Attributes that code reads; a word in a comment, or a library's argument of that name, does not count."""
    found: set[str] = set()
    for folder in (ROOT / "runner/ftl_runner", ROOT / "launcher/ftl_launcher"):
        for file in folder.rglob("*.py"):
            nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
            found |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
            if file == ROOT / READ_BY_NAME:
                found |= {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return found


def test_implemented_keys_are_read() -> None:
    names = names_that_are_read()
    implemented = [name for name, status in table().items() if status.name == "implemented"]
    unread = {name for name in implemented if ATTRIBUTE_NAMES.get(name, name) not in names}
    assert unread == READ_BY_THE_CONTRACT


def test_keys_of_datasets_and_launch_are_read() -> None:
    names = {*names_that_are_read(), *quoted_names()}
    known = {name for name in DatasetSpec.model_fields if f"datasets.{name}" not in table()}
    assert {name for name in known | set(LaunchSection.model_fields) if name not in names} == READ_BY_THE_SECTION


def quoted_names() -> set[str]:
    """Formats take the names of columns from tables."""
    folder = ROOT / "runner/ftl_runner/data/formats"
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in folder.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
