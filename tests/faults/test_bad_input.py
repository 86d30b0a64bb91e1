"""Bad input through the CLI: a clear message, the right exit code, no traceback. One row a mistake."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ftl_cli import Ftl, read_events, write_config
from tests.services.s3 import S3_CREDENTIALS, S3Server, running_s3_server

GOOD = """\
base_model: {model}
datasets:
  - path: {data}
    type: chat_template
output_dir: out
micro_batch_size: 1
gradient_accumulation_steps: 1
learning_rate: 1e-4
"""


@pytest.fixture
def ftl(tmp_path: Path) -> Ftl:
    return Ftl(tmp_path / "home", tmp_path, {})


def refuse(ftl: Ftl, *args: str, code: int, says: tuple[str, ...]) -> str:
    result = ftl.run(*args, check=False)
    text = result.stdout + result.stderr
    assert result.returncode == code, text
    assert "Traceback" not in text
    for wanted in says:
        assert wanted in text, f"{wanted!r} is not in:\n{text}"
    return text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ("empty",)),
        ("- base_model: x\n", ("mapping",)),
        ("base_model: x\n\tadapter: lora\n", ("config.yml:2", "tab")),
        ("base_model: x\nlearning_rte: 1e-4\n", ("config.yml:2:1", "learning_rte", "learning_rate")),
        ("base_model: x\nlora_r: many\n", ("config.yml:2", "lora_r")),
        ("base_model: x\nmicro_batch_size: -2\n", ("config.yml:2", "micro_batch_size")),
        ("base_model: x\nbase_model: y\n", ("config.yml:2", "base_model", "line 1")),
        ("base_model: x\nload_in_4bit: true\nload_in_8bit: true\nadapter: lora\n", ("load_in_4bit", "load_in_8bit")),
        ("base_model: x\nadapter: qlora\n", ("adapter", "load_in_4bit")),
        ("base_model: [x\n", ("config.yml",)),
    ],
    ids=["empty", "list", "tab", "unknown-key", "type", "negative", "duplicate", "4bit-8bit", "qlora", "syntax"],
)
def test_config_mistakes(ftl: Ftl, tmp_path: Path, text: str, says: tuple[str, ...]) -> None:
    (tmp_path / "config.yml").write_text(text)
    refuse(ftl, "config", "check", "config.yml", code=2, says=says)


def test_all_problems_are_told_at_once(ftl: Ftl, tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("base_modl: x\nmicro_batch_size: 0\nlearning_rate: fast\n")
    refuse(ftl, "config", "check", "config.yml", code=2, says=("base_modl", "micro_batch_size", "learning_rate"))


def test_missing_config_names_its_neighbour(ftl: Ftl, tmp_path: Path) -> None:
    (tmp_path / "lora.yml").write_text("base_model: x\n")
    refuse(ftl, "launch", "lora.yaml", code=2, says=("lora.yaml", "lora.yml"))


def test_missing_dataset_and_model_are_found_before_launch(ftl: Ftl, tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(GOOD.format(model="./no-such-model", data="./no-such.jsonl"))
    refuse(ftl, "launch", "config.yml", code=2, says=("./no-such.jsonl", "./no-such-model", "config.yml:3"))


def test_model_directory_without_tokenizer(ftl: Ftl, tmp_path: Path, small_data: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "config.yml").write_text(GOOD.format(model="./model", data=small_data))
    refuse(ftl, "launch", "config.yml", code=2, says=("base_model", "tokenizer"))


def test_unreachable_ray_address(ftl: Ftl, tmp_path: Path, tiny_model: Path, small_data: Path) -> None:
    (tmp_path / "config.yml").write_text(GOOD.format(model=tiny_model, data=small_data))
    started = time.monotonic()
    refuse(ftl, "launch", "config.yml", "--ray-address", "http://127.0.0.1:9", code=1, says=("http://127.0.0.1:9",))
    assert time.monotonic() - started < 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ('{"messages": [{"role": "user", "content": "hi"}]}\nnot json\n', ("data.jsonl", "line 2")),
        ('{"conversation": []}\n', ("data.jsonl", "messages", "conversation")),
    ],
    ids=["not-json", "missing-field"],
)
def test_bad_data(ftl: Ftl, tmp_path: Path, tiny_model: Path, rows: str, says: tuple[str, ...]) -> None:
    (tmp_path / "data.jsonl").write_text(rows)
    (tmp_path / "config.yml").write_text(GOOD.format(model=tiny_model, data="data.jsonl"))
    refuse(ftl, "train", "config.yml", code=3, says=says)


def test_dataset_with_zero_rows(ftl: Ftl, tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "data.jsonl").write_text("")
    (tmp_path / "config.yml").write_text(GOOD.format(model=tiny_model, data="data.jsonl"))
    refuse(ftl, "launch", "config.yml", code=2, says=("config.yml:3:5", "data.jsonl is empty"))


class TestObjectStore:
    """S3 mistakes are found by `ftl launch` before anything starts."""

    @pytest.fixture
    def config(self, tmp_path: Path, tiny_model: Path, small_data: Path) -> Path:
        (tmp_path / "config.yml").write_text(GOOD.format(model=tiny_model, data=small_data))
        return tmp_path / "config.yml"

    @pytest.fixture
    def strict_server(self) -> Iterator[str]:
        """moto with authentication on: after the bucket is made, only known keys may do anything."""
        with running_s3_server("guarded", {"INITIAL_NO_AUTH_ACTION_COUNT": "1"}) as server:
            yield server.endpoint

    def launch(self, ftl: Ftl, environment: dict[str, str], uri: str, says: tuple[str, ...]) -> None:
        with_s3 = Ftl(ftl.home, ftl.cwd, environment)
        text = refuse(with_s3, "launch", "config.yml", "--checkpoint", uri, code=1, says=says)
        assert S3_CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in text

    def test_missing_bucket(self, ftl: Ftl, config: Path, s3_server: S3Server) -> None:
        self.launch(ftl, s3_server.environment, "s3://no-such-bucket/x", ("no-such-bucket", "does not exist"))

    def test_wrong_credentials(self, ftl: Ftl, config: Path, strict_server: str) -> None:
        environment = {**S3_CREDENTIALS, "AWS_ENDPOINT_URL": strict_server}
        self.launch(ftl, environment, "s3://guarded/x", ("credentials", "AWS_ACCESS_KEY_ID"))

    def test_no_credentials(self, ftl: Ftl, config: Path, s3_server: S3Server) -> None:
        environment = {
            "AWS_ENDPOINT_URL": s3_server.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "HOME": str(ftl.cwd),
        }
        self.launch(ftl, environment, "s3://ftl-test/x", ("credentials",))

    def test_unreachable_endpoint(self, ftl: Ftl, config: Path) -> None:
        environment = {**S3_CREDENTIALS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
        self.launch(ftl, environment, "s3://ftl-test/x", ("127.0.0.1:9",))


@pytest.mark.slow
class TestDiskFull:
    """The disk fills up while a checkpoint is written: said plainly, and the one before it still counts."""

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(disk)], capture_output=True)
        if mounted.returncode != 0:
            pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
        yield disk
        subprocess.run(["umount", "-l", str(disk)], check=True)

    def test_last_commit_survives(
        self, ftl: Ftl, tiny_config: dict[str, Any], small_disk: Path, tmp_path: Path
    ) -> None:
        out = small_disk / "out"
        settings = {**tiny_config, "deepspeed": None, "output_dir": str(out), "save_steps": 4, "save_total_limit": 50}
        # The check before training would refuse a disk this small.
        path = write_config(tmp_path / "config.yml", {**settings, "launch": {"preflight": False}})
        refuse(ftl, "train", str(path), code=1, says=("full", str(out), "save_total_limit"))
        committed = sorted(int(p.parent.name.split("-")[1]) for p in out.glob("checkpoint-*/ftl_manifest.json"))
        assert committed
        assert committed[-1] < 24
        folders = {int(p.name.split("-")[1]) for p in out.glob("checkpoint-*")}
        assert folders == set(committed), "the half-written checkpoint is gone"

        # With room again the run goes on from there.
        subprocess.run(["mount", "-o", "remount,size=400m", str(small_disk)], check=True)
        ftl.run("train", str(path), "--auto-resume-from-checkpoints")
        assert read_events(out, "resumed")[-1]["step"] == committed[-1]
        assert (out / "adapter_model.safetensors").is_file()
