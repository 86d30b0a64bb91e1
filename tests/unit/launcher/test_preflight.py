"""What is looked at before anything starts."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ftl_config.errors import ConfigError, FtlError
from ftl_launcher import cli
from ftl_launcher.preflight import check_inputs, check_remote_inputs, looks_local
from ftl_launcher.preflight_storage import _client_error, check_checkpoint_store
from tests.services.s3 import S3Server
from tests.unit.launcher.plans import CONFIG, load


def problems_of(root: Path, *flags: str, text: str = CONFIG) -> dict[str, str]:
    """Key -> message of what `check_inputs` finds."""
    try:
        check_inputs(load(*flags, text=text), root, runs_here=True)
    except ConfigError as error:
        return {problem.key: f"{problem.message} | {problem.hint}" for problem in error.problems}
    return {}


def with_dataset(path: str) -> str:
    return CONFIG.replace("org/chats", path)


def test_hub_names_and_urls_are_not_looked_for(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == {}
    assert problems_of(tmp_path, text=with_dataset("s3://bucket/data.jsonl")) == {}


@pytest.mark.parametrize(
    ("path", "local"),
    [("./a", True), ("/a", True), ("~/a", True), ("a.jsonl", True), ("org/a", False), ("s3://a.json", False)],
)
def test_looks_local(path: str, local: bool) -> None:
    assert looks_local(path) is local


def test_missing_dataset_names_key_and_line_and_a_close_file(tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError) as caught:
        check_inputs(load(text=with_dataset("./chat.jsonl")), tmp_path, runs_here=True)
    (problem,) = caught.value.problems
    assert problem.key == "datasets[0].path"
    assert (problem.file, problem.line) == ("config.yml", 7)
    assert "did you mean" in (problem.hint or "")
    assert "chats.jsonl" in (problem.hint or "")


def test_a_missing_file_of_a_stream(tmp_path: Path) -> None:
    text = CONFIG.replace("datasets:", "max_steps: 5\npretraining_dataset:").replace("org/chats", "./text.jsonl")
    text = text.replace("type: chat_template", "type: pretrain")
    assert "no such file" in problems_of(tmp_path, text=text)["pretraining_dataset[0].path"]


def test_package_that_an_optimizer_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known here where the run is here; other machines have packages of their own."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = problems_of(tmp_path, "--optimizer", "schedule_free_adamw")
    assert found == {"optimizer": "schedule_free_adamw needs the package schedulefree | pip install schedulefree"}
    assert problems_of(tmp_path, "--optimizer", "muon") == {}
    found = problems_of(tmp_path, "--rl", "dpo")
    assert found == {"rl": "needs the package trl | pip install 'ftl-tune[preference]'"}


def test_empty_dataset_file(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("")
    assert "is empty" in problems_of(tmp_path, text=with_dataset("./d.jsonl"))["datasets[0].path"]


def test_missing_data_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    text = CONFIG.replace("  - path: org/chats", "  - path: ./data\n    data_files: [a.json, '*.json']")
    assert list(problems_of(tmp_path, text=text)) == ["datasets[0].data_files"]


def folder(*files: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        (root / "model").mkdir()
        for file in files:
            (root / "model" / file).write_text("{}")

    return make


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda root: None, "no such folder"),
        (folder(), "no config.json"),
        (folder("config.json"), "has no tokenizer"),
        (folder("config.json", "tokenizer.json"), None),
        (folder("model.gguf"), None),
    ],
)
def test_model_folder(make: Callable[[Path], None], expected: str | None, tmp_path: Path) -> None:
    make(tmp_path)
    found = problems_of(tmp_path, "--base-model=./model")
    assert (expected is None) == (found == {})
    assert expected is None or expected in found["base_model"]


def test_model_folder_without_tokenizer_is_fine_when_one_is_named(tmp_path: Path) -> None:
    folder("config.json")(tmp_path)
    assert problems_of(tmp_path, "--base-model=./model", "--tokenizer-config=org/tokenizer") == {}


@pytest.mark.parametrize("name", ["zero2.json", "deepspeed_configs/zero3.json"])
def test_shipped_deepspeed_settings_are_known(name: str, tmp_path: Path) -> None:
    assert problems_of(tmp_path, f"--deepspeed={name}") == {}


def test_unwritable_output(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file" in problems_of(tmp_path, "--output-dir=./file/out")["output_dir"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot be written" in problems_of(tmp_path, "--output-dir=./out")["output_dir"]


def test_all_problems_come_at_once_and_nothing_is_recorded(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_file.write_text(CONFIG.replace("org/chats", "./none.jsonl"))
    code = cli.run(["launch", str(config_file), "--base-model", "./nomodel", "--name", "x"])
    err = capsys.readouterr().err
    assert code == 2
    assert "none.jsonl" in err
    assert "nomodel" in err
    assert cli.run(["status", "x"]) == 1


def test_unreachable_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with pytest.raises(FtlError, match=r"no S3 server answers at http://127.0.0.1:9"):
        check_checkpoint_store("s3://bucket/x", keys)


def test_no_s3_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(FtlError, match="no S3 credentials"):
        check_checkpoint_store("s3://bucket/x", {})


def test_other_stores_are_only_noted() -> None:
    assert "not looked at" in (check_checkpoint_store("gs://bucket/x", {}) or "")


def test_checkpoint_folder(tmp_path: Path) -> None:
    assert check_checkpoint_store(str(tmp_path / "a/b"), {}) is None
    (tmp_path / "file").write_text("")
    with pytest.raises(FtlError, match="cannot be written"):
        check_checkpoint_store(str(tmp_path / "file/b"), {})


def test_relative_paths_do_not_reach_other_machines_by_themselves(tmp_path: Path) -> None:
    flags = ("--base-model=./model", "--deepspeed=ds.json", "--output-dir=./out")
    loaded = load(*flags, text=with_dataset("data.jsonl"))
    with pytest.raises(ConfigError) as caught:
        check_remote_inputs(loaded, None)
    assert [problem.key for problem in caught.value.problems] == ["datasets[0].path", "base_model", "deepspeed"]
    assert all("launch.workdir" in (problem.hint or "") for problem in caught.value.problems)
    (tmp_path / "data.jsonl").write_text("{}")
    (tmp_path / "ds.json").write_text("{}")
    with pytest.raises(ConfigError) as caught:
        check_remote_inputs(loaded, tmp_path)
    assert [problem.key for problem in caught.value.problems] == ["base_model"]


def with_rewards(*names: str) -> str:
    return f"{CONFIG}rl: grpo\ntrl: {{reward_funcs: [{', '.join(names)}]}}\n"


def test_reward_functions_have_a_file(tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text("")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/judges.py").write_text("")
    assert problems_of(tmp_path, text=with_rewards("rewards.a", "pack.judges.b", "json.loads", "own/judge")) == {}
    found = problems_of(tmp_path, text=with_rewards("reward.a", "pack.judge.b"))
    message, _, hint = found["trl.reward_funcs[0]"].partition(" | ")
    assert message == "no such file: reward.py (the function reward.a is to be in it)"
    assert hint.endswith("rewards.py?")
    assert "pack/judges.py" in found["trl.reward_funcs[1]"]


def test_reward_functions_travel_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rewards.py").write_text("")
    monkeypatch.chdir(tmp_path)
    loaded = load(text=with_rewards("rewards.a", "json.loads"))
    with pytest.raises(ConfigError, match=r"trl.reward_funcs\[0\]: rewards.py is on this machine"):
        check_remote_inputs(loaded, None)
    check_remote_inputs(loaded, tmp_path)


def test_absolute_paths_hub_names_and_shipped_files_may_be_there() -> None:
    check_remote_inputs(load("--deepspeed=zero2.json", text=with_dataset("/data/rows.jsonl")), None)


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("NoSuchBucket", 404, "the bucket 'b' does not exist"),
        ("SignatureDoesNotMatch", 403, "refuses the credentials"),
        ("InvalidAccessKeyId", 403, "refuses the credentials"),
        ("ExpiredToken", 400, "refuses the credentials"),
        ("AccessDenied", 403, "no permission to write to s3://b/x"),
        ("SlowDown", 503, "S3 refuses to write"),
    ],
)
def test_s3_answers_are_told_apart(code: str, status: int, message: str) -> None:
    response = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = _client_error(SimpleNamespace(response=response), "b", "s3://b/x")
    assert message in error.message
    assert error.exit_code == 1


@pytest.mark.service
class TestRealServer:
    """Against the S3-protocol server that the end-to-end tests use, too."""

    def test_writable_bucket(self, s3: S3Server) -> None:
        assert check_checkpoint_store(f"s3://{s3.bucket}/some/run", {}) is None

    def test_missing_bucket(self, s3: S3Server) -> None:
        with pytest.raises(FtlError, match="'no-such-bucket' does not exist") as caught:
            check_checkpoint_store("s3://no-such-bucket/run", {})
        assert "aws s3 mb s3://no-such-bucket" in (caught.value.hint or "")

    def test_nothing_is_left_behind(self, s3: S3Server) -> None:
        import boto3

        check_checkpoint_store(f"s3://{s3.bucket}/clean/run", {})
        listing = boto3.client("s3").list_objects_v2(Bucket=s3.bucket, Prefix="clean/")
        assert listing["KeyCount"] == 0
