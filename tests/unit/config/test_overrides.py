"""Flags."""

from __future__ import annotations

import pytest

from ftl_config import ConfigError, load_config
from ftl_config.keys import value_of
from tests.unit.config.configs import BASE, errors_of, load


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (["--learning-rate", "1e-5"], "learning_rate", 1e-5),
        (["--learning_rate=2e-5"], "learning_rate", 2e-5),
        (["--learning-rate", "1", "--learning-rate", "2"], "learning_rate", 2.0),
        (["--sample-packing"], "sample_packing", True),
        (["--sample-packing", "--seed", "1"], "sample_packing", True),
        (["--sample_packing", "False"], "sample_packing", False),
        (["--no-sample-packing"], "sample_packing", False),
        (["--no-bf16"], "bf16", False),
        (["--bf16", "auto"], "bf16", "auto"),
        (["--lora-target-modules", "[q_proj,v_proj]"], "lora_target_modules", ("q_proj", "v_proj")),
        (["--lora-target-modules", "all-linear"], "lora_target_modules", "all-linear"),
        (["--lora-target-modules", r".*\.(q|v)_proj"], "lora_target_modules", r".*\.(q|v)_proj"),
        (["--wandb-name", "007"], "wandb_name", "007"),
        (["--wandb-name", "no: way"], "wandb_name", "no: way"),
        (["--chat-template-jinja", "{{ messages }}"], "chat_template_jinja", "{{ messages }}"),
        (["--base-model=a=b"], "base_model", "a=b"),
        (["--max-steps", ""], "max_steps", None),
        (["--wandb-project", ""], "wandb_project", None),
        (["--lr-scheduler-kwargs", '{"num_cycles": 2}'], "lr_scheduler_kwargs", {"num_cycles": 2}),
        (["--lr-scheduler-kwargs.num_cycles", "2"], "lr_scheduler_kwargs", {"num_cycles": 2}),
        (["--model-config.rope-scaling.factor", "2.0"], "model_config", {"rope-scaling": {"factor": 2.0}}),
        (["--deepspeed", "zero2.json"], "deepspeed", "zero2.json"),
        (["--deepspeed", '{"zero_optimization": {"stage": 2}}'], "deepspeed", {"zero_optimization": {"stage": 2}}),
        (["--flash-attention"], "attn_implementation", "flash_attention_2"),
        (["--val-set-size", "-0"], "val_set_size", 0.0),
    ],
)
def test_values(argv: list[str], key: str, value: object) -> None:
    assert value_of(load(BASE, *argv).config, key) == value


def test_nested_keys() -> None:
    config = load(
        BASE,
        *("--launch.nodes=2", "--launch.spot", "--launch.env.MY_VAR", "3", "--launch.recovery.max-restarts", "5"),
        *("--datasets.0.path", "other.jsonl", "--datasets.1.path", "more.jsonl", "--special-tokens.pad-token", "<pad>"),
    ).config
    assert (config.launch.nodes, config.launch.spot, config.launch.env) == (2, True, {"MY_VAR": "3"})
    assert config.launch.recovery is not None
    assert config.launch.recovery.max_restarts == 5
    assert config.data.datasets is not None
    assert [entry.path for entry in config.data.datasets] == ["other.jsonl", "more.jsonl"]
    assert config.data.datasets[0].type == "chat_template"
    assert config.model.special_tokens is not None
    assert config.model.special_tokens.pad_token == "<pad>"


def test_nested_no() -> None:
    config = load(BASE, "--launch.no-autodown").config
    assert config.launch.autodown is False


def test_an_alias_is_changed_in_one_place_only() -> None:
    text = "datasets:\n  - &x {path: a, type: alpaca}\n  - *x\n"
    datasets = load(text, "--datasets.1.path", "b").config.data.datasets
    assert datasets is not None
    assert [entry.path for entry in datasets] == ["a", "b"]


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["--lerning-rate", "1"], "unknown flag --lerning-rate", "did you mean --learning-rate?"),
        (["--no-sample-packin"], "unknown flag --no-sample-packin", "did you mean --no-sample-packing?"),
        (["--foo"], "unknown flag --foo", None),
        (["config2.yml"], "unexpected argument 'config2.yml'", "flags look like --key value"),
        (["-l", "5"], "unexpected argument '-l'", "flags look like --key value"),
        (["--learning-rate"], "needs a value", "write --learning-rate VALUE"),
        (["--no-bf16=true"], "--no-bf16 takes no value", None),
        (["--learning-rate", "fast"], "expected a number above 0, got the text 'fast'", None),
        (["--lora-rank-pattern", "{a"], "cannot read '{a' as a YAML value", "put the value in quotes"),
        (["--datasets.5.path", "x"], "there is no entry 5 in datasets", "entries count from 0; 1 would add one"),
        (["--datasets.first.path", "x"], "there is no entry first in datasets", "name an entry by its number"),
        (["--launch.noodes", "3"], "unknown key", "did you mean `nodes`?"),
        (["--fp8", "true"], "not yet supported: FP8 training", None),
    ],
)
def test_mistakes(argv: list[str], message: str, hint: str | None) -> None:
    first = errors_of(BASE, *argv)[0]
    assert first.message.startswith(message)
    assert first.hint == hint


def test_a_problem_of_a_flag_is_placed_at_the_flag() -> None:
    (problem,) = errors_of(BASE, "--micro_batch_size", "0")
    assert (problem.file, problem.line) == ("--micro_batch_size", None)
    assert str(problem).startswith("--micro_batch_size: error: micro_batch_size: expected")


def test_flags_and_file_are_checked_together() -> None:
    found = {problem.key or problem.message for problem in errors_of(BASE + "sead: 1\n", "--foo", "--num-epochs", "0")}
    assert found == {"sead", "unknown flag --foo", "num_epochs"}


def test_origins_tell_flags_from_lines() -> None:
    loaded = load(BASE, "--learning-rate", "1", "--launch.nodes", "2")
    assert str(loaded.origins["learning_rate"]) == "--learning-rate"
    assert str(loaded.origins["micro_batch_size"]) == "config.yml:6"
    assert str(loaded.origins["seed"]) == "default"
    assert str(loaded.launch_origins["nodes"]) == "--launch.nodes"


def test_flags_complete_a_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("c") / "config.yml"
    path.write_text(BASE.replace("learning_rate: 1e-4\n", ""))
    with pytest.raises(ConfigError, match="learning_rate: is missing"):
        load_config(path)
    assert load_config(path, ["--learning-rate", "3e-4"]).config.training.learning_rate == 3e-4
