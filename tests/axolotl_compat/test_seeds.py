"""The configs and snippets of the documents that users come from load as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftl_config import ConfigError, load_config

SEEDS = sorted((Path(__file__).parent / "seeds").glob("*.yml"))
CONTRADICTORY = "axolotl-loading"
"""A list of options one may choose from, not a config: it has both bit widths, and both 16-bit formats."""


def seed(name: str) -> Path:
    return Path(__file__).parent / "seeds" / f"{name}.yml"


@pytest.mark.parametrize("path", [path for path in SEEDS if path.stem != CONTRADICTORY], ids=lambda path: path.stem)
def test_loads(path: Path) -> None:
    load_config(path, partial=True)


def test_there_are_all_blocks() -> None:
    assert len(SEEDS) == 15


def test_options_that_exclude_each_other_are_the_only_problem_of_the_loading_snippet() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(seed(CONTRADICTORY), partial=True)
    assert [(problem.key, problem.line) for problem in caught.value.problems] == [("load_in_4bit", 1), ("float16", 9)]
    chosen = ["--no-load-in-8bit", "--no-float16"]
    assert load_config(seed(CONTRADICTORY), chosen, partial=True).config.adapter.load_in_4bit


def test_lora_config_is_read_as_its_author_meant() -> None:
    loaded = load_config(seed("lfm2-2.6b-lora"))
    config = loaded.config
    assert config.model.base_model == "LiquidAI/LFM2-2.6B"
    assert config.training.learning_rate == 2e-4
    assert (config.adapter.adapter, config.adapter.lora_r, config.adapter.lora_dropout) == ("lora", 16, 0.05)
    assert config.model.attn_implementation == "flash_attention_2"
    assert config.data.datasets is not None
    assert config.data.datasets[0].field_messages == "messages"
    assert [warning.key for warning in loaded.warnings] == ["flash_attention"]


def test_qlora_config_keeps_its_quantization() -> None:
    adapter = load_config(seed("lfm2-2.6b-qlora"), partial=True).config.adapter
    assert adapter.load_in_4bit
    assert adapter.bnb_4bit_quant_type == "nf4"
    assert adapter.bnb_4bit_use_double_quant is True
    assert adapter.bnb_4bit_compute_dtype == "bfloat16"


@pytest.mark.parametrize("name", ["lfm2-2.6b-qlora", "lfm2-2.6b-full"])
def test_configs_that_leave_the_data_out_say_so(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(seed(name))
    assert [problem.key for problem in caught.value.problems if problem.severity == "error"] == ["datasets"]


def test_dataset_snippet_has_every_entry() -> None:
    datasets = load_config(seed("axolotl-dataset"), partial=True).config.data.datasets
    assert datasets is not None
    assert len(datasets) == 8
    assert datasets[2].name == ("ruby", "python", "typescript")
    assert datasets[5].split == "validation"


def test_ellipses_of_the_documentation_are_to_be_filled_in_before_a_run() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(seed("axolotl-dataset"))
    placeholders = [problem.key for problem in caught.value.problems if "fill in" in problem.message]
    assert placeholders == ["datasets[2].type", "datasets[3].path"]


def test_empty_tracker_keys_mean_nothing() -> None:
    for name in ("axolotl-wandb", "axolotl-comet"):
        loaded = load_config(seed(name), partial=True)
        assert loaded.to_yaml() == "{}\n"
        assert not loaded.warnings
