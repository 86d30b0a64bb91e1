"""``trust_remote_code``: code that comes with a model runs where the config says so, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers.dynamic_module_utils as dynamic
import yaml

from ftl_runner.models.errors import ModelError
from ftl_runner.models.loader import load_model_config
from ftl_runner.models.tokenizer import load_tokenizer
from tests.e2e.ftl_cli import Ftl
from tests.families.own_code import write_model_with_code
from tests.families.trial import run_steps, tiny_threads
from tests.unit.runner.snippets import config_of, needs_cpu


@pytest.fixture
def own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """transformers copies code that it runs into a cache; not into the user's."""
    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return write_model_with_code(tmp_path / "model")


def test_code_is_not_run_unasked(own_model: Path, tmp_path: Path) -> None:
    config = config_of(f"base_model: {own_model}")
    for load in (load_model_config, load_tokenizer):
        with pytest.raises(ModelError, match="comes with Python code of its own") as caught:
            load(config)  # type: ignore[operator]
        assert caught.value.exit_code == 2
        assert "trust_remote_code: true" in str(caught.value.hint)
    assert not (tmp_path / "modules").exists()


@pytest.mark.slow
@needs_cpu
def test_trusted_code_trains(own_model: Path) -> None:
    trusted = f"base_model: {own_model}\ntrust_remote_code: true"
    assert load_tokenizer(config_of(trusted)).own_code_ran  # type: ignore[attr-defined]
    assert type(load_model_config(config_of(trusted))).__name__ == "OwnConfig"
    lines = "bf16: false\ntrust_remote_code: true\nadapter: lora\nlora_target_linear: true"
    with tiny_threads():
        packed, unpacked = (run_steps(own_model, lines, packed=packed) for packed in (True, False))
    assert packed == pytest.approx(unpacked, abs=2e-4)


@pytest.mark.slow
def test_the_command_says_what_to_do(own_model: Path, small_data: Path, tmp_path: Path) -> None:
    datasets = [{"path": str(small_data), "type": "chat_template"}]
    settings = {"base_model": str(own_model), "datasets": datasets, "learning_rate": 1e-3, "chat_template": "chatml"}
    (tmp_path / "config.yml").write_text(yaml.safe_dump(settings))
    result = Ftl(tmp_path / "home", tmp_path, {}).run("train", "config.yml", check=False)
    text = result.stdout + result.stderr
    assert result.returncode == 2, text
    assert "Traceback" not in text
    assert "set trust_remote_code: true" in text
