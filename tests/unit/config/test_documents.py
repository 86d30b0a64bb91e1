"""What is generated from the schema: JSON Schema, reference; and what importing it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ftl_config import config_schema, load_config
from ftl_config.axolotl import table
from ftl_config.deepspeed import SHIPPED_NAMES, shipped_name
from ftl_config.keys import keys
from ftl_config.reference import TARGET, render_reference

ROOT = Path(__file__).resolve().parents[3]


EXAMPLES = sorted((ROOT / "templates/examples").glob("*.yml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_fine(path: Path) -> None:
    assert load_config(str(path)).warnings == ()


def test_schema_is_flat_and_closed() -> None:
    schema = config_schema()
    assert schema["additionalProperties"] is False
    assert set(keys()) <= set(schema["properties"])
    assert json.loads(json.dumps(schema)) == schema
    rate = schema["properties"]["learning_rate"]
    assert {"exclusiveMinimum": 0, "type": "number"} in rate["anyOf"]
    assert {"type": "null"} in rate["anyOf"]
    assert rate["description"].startswith("Peak learning rate.")
    assert schema["properties"]["fp8"]["deprecated"] is True
    assert (
        schema["properties"]["flash_attention"]["description"]
        == "Old spelling: write attn_implementation: flash_attention_2."
    )


def test_schema_describes_every_key_of_entries_too() -> None:
    schema = config_schema()
    for name, definition in schema["$defs"].items():
        for key, field in definition["properties"].items():
            assert field.get("description"), f"{name}.{key}"
    entry = schema["$defs"]["DatasetSpec"]
    assert entry["additionalProperties"] is False
    refs = json.dumps(schema).count("#/$defs/")
    assert refs >= len(schema["$defs"]) - 1
    assert {part.split('"')[0] for part in json.dumps(schema).split("#/$defs/")[1:]} <= set(schema["$defs"])


def test_reference_is_fresh() -> None:
    text = render_reference()
    stored = (ROOT / TARGET).read_text(encoding="utf-8")
    assert text == stored, "run python -m ftl_config.reference"
    for name in table():
        assert f"`{name}`" in text or f"`{name.removeprefix('datasets.')}`" in text or name == "launch", name


def test_shipped_deepspeed_settings_are_those_of_the_folder() -> None:
    assert {path.name for path in (ROOT / "templates/deepspeed").glob("*.json")} == set(SHIPPED_NAMES)
    assert shipped_name("deepspeed_configs/zero2.json") == "zero2.json"
    assert shipped_name("/opt/deepspeed_configs/zero3.json") == "zero3.json"
    assert shipped_name("zero1.json") == "zero1.json"
    assert shipped_name("mine/zero1.json") is None
    assert shipped_name("other.json") is None


def modules_after(code: str) -> set[str]:
    command = f"{code}\nimport sys\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_errors_and_protocol_cost_no_pydantic() -> None:
    loaded = modules_after("from ftl_config import FtlError, ConfigError\nimport ftl_config.protocol")
    assert not loaded & {"pydantic", "yaml"}


def test_loading_a_config_imports_nothing_heavy() -> None:
    loaded = modules_after("from ftl_config import load_text\nload_text('learning_rate: 1e-4', partial=True)")
    heavy = {"torch", "transformers", "datasets", "ray", "sky", "boto3", "numpy", "ftl_runner", "ftl_launcher"}
    assert not loaded & heavy
    assert not loaded & {"ftl_config.json_schema", "ftl_config.reference", "ftl_config.rows", "urllib.request"}
