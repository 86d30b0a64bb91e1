"""Datasets of a hub, through the real client libraries and a hub on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.ftl_cli import Ftl, write_config
from tests.services.hub import TOKEN, Hub, HubRepo, running_hub

pytestmark = pytest.mark.slow

CARD = """---
configs:
- config_name: en
  data_files: [{split: train, path: en/train.jsonl}, {split: test, path: en/test.jsonl}]
- config_name: de
  data_files: [{split: train, path: de/train.jsonl}]
---
"""


def lines(start: int, stop: int) -> bytes:
    rows = ({"instruction": f"do {n}", "output": f"done {n}"} for n in range(start, stop))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        main = {
            "README.md": CARD.encode(),
            "en/train.jsonl": lines(0, 20),
            "en/test.jsonl": lines(100, 104),
            "de/train.jsonl": lines(200, 207),
        }
        hub.repos["me/set"] = HubRepo({"main": main, "v1": {"train.jsonl": lines(300, 303)}})
        hub.repos["me/gated"] = HubRepo({"main": {"train.jsonl": lines(0, 3)}}, gated=True)
        yield hub


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "base_model": str(tiny_model),
        "sequence_len": 128,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-3,
        "output_dir": str(tmp_path / "out"),
        "dataset_prepared_path": str(tmp_path / "prepared"),
    }


def user(hub: Hub, folder: Path, token: str | None) -> Ftl:
    """A user with an empty cache of the hub."""
    folder.mkdir()
    environment = {**hub.environment, "HF_HOME": str(folder / "hf"), **({"HF_TOKEN": token} if token else {})}
    return Ftl(folder / "home", folder, environment)


def test_names_splits_revisions_files_and_pushing(hub: Hub, base: dict[str, Any], tmp_path: Path) -> None:
    entries = [
        {"name": ["en", "de"]},
        {"name": "en", "split": "test"},
        {"name": "en", "split": "train[:10%]"},
        {"revision": "v1"},
        {"data_files": ["de/train.jsonl"]},
    ]
    datasets = [{"path": "me/set", "type": "alpaca", **entry} for entry in entries]
    settings = {**base, "datasets": datasets, "val_set_size": 2, "push_dataset_to_hub": "me/prepared"}
    path = write_config(tmp_path / "c.yml", {**settings, "hf_use_auth_token": True})
    result = user(hub, tmp_path / "one", TOKEN).run("preprocess", str(path))
    rows = [line for line in result.stdout.splitlines() if line.startswith("me/set: ")]
    assert [row.split()[1] for row in rows] == ["27", "4", "2", "3", "7"]

    pushed = hub.repos["me/prepared"]
    assert pushed.private
    files = pushed.files("main")
    (fingerprint,) = {name.split("/")[0] for name in files if name.endswith(".parquet")}
    assert fingerprint in files["README.md"].decode()
    parquets = {name: body for name, body in files.items() if name.endswith(".parquet")}
    tables = {name.split("/")[1].split("-")[0]: pq.read_table(pa.BufferReader(parquets[name])) for name in parquets}
    assert {split: table.num_rows for split, table in tables.items()} == {"train": 41, "validation": 2}
    assert set(tables["train"].column_names) == {"input_ids", "labels", "length"}

    hub.asked.clear()
    again = user(hub, tmp_path / "two", TOKEN).run("preprocess", str(path))
    assert "found in the cache" in again.stdout
    assert not [line for line in hub.asked if ".jsonl" in line or "POST" in line]


def test_a_gated_set_without_a_token(hub: Hub, base: dict[str, Any], tmp_path: Path) -> None:
    path = write_config(tmp_path / "c.yml", {**base, "datasets": [{"path": "me/gated", "type": "alpaca"}]})
    result = user(hub, tmp_path / "one", None).run("preprocess", str(path), check=False)
    assert result.returncode == 3
    assert "dataset me/gated cannot be loaded" in result.stderr
    assert "set HF_TOKEN in the environment" in result.stderr
    assert "Traceback" not in result.stderr
