"""GRPO: keys become arguments, answers with higher rewards become likelier, a run goes on where it stopped."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, LlamaForSequenceClassification
from trl import GRPOConfig

from ftl_config.errors import FtlError
from ftl_runner.trainer import grpo_arguments
from ftl_runner.trainer.grpo_arguments import grpo_options
from ftl_runner.trainer.judging import guarded
from tests.unit.runner.one_run import run_once, write_rows
from tests.unit.runner.snippets import config_of
from tests.unit.runner.word_model import REWARDS, WORDS, write_word_model

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}
_draw = random.Random(1)
PROMPTS = [
    {"prompt": [{"role": "user", "content": " ".join(_draw.choices(WORDS, k=3))}], "wish": _draw.choice(WORDS)}
    for _ in range(24)
]


@pytest.fixture(scope="module")
def word_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_word_model(tmp_path_factory.mktemp("words"))


@pytest.fixture
def settings(word_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Short answers to short prompts; reward functions in the folder that the run starts in."""
    (tmp_path / "own_rewards.py").write_text(REWARDS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_rewards", raising=False)
    return {
        "base_model": str(word_model),
        "chat_template": "chatml",
        "rl": "grpo",
        "trl": {"reward_funcs": ["own_rewards.good_words"], "num_generations": 8, "max_completion_length": 6},
        "datasets": [{"path": write_rows(tmp_path / "prompts.jsonl", PROMPTS)}],
        "dataset_prepared_path": str(tmp_path / "prepared"),
        "sequence_len": 96,
        "output_dir": str(tmp_path / "out"),
        "max_steps": 20,
        "micro_batch_size": 32,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-2,
        "lr_scheduler": "constant",
        "optimizer": "adamw_torch",
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "seed": 3,
    }


@pytest.mark.slow
def test_rewards_rise(settings: dict[str, Any]) -> None:
    run = run_once(settings)
    rewards = run.history("reward")
    assert sum(rewards[:3]) / 3 < 0.3
    assert sum(rewards[-3:]) / 3 > 0.9
    assert run.metrics["tokens_this_attempt"] > 20 * 32 * 10, "prompts and answers are counted"


@pytest.mark.slow
def test_a_run_goes_on_amid_a_generation(settings: dict[str, Any], tmp_path: Path) -> None:
    """Answers of one generation are trained on in four steps; the stop falls between two, in the second epoch.

    The run goes on where nothing is left of it but its checkpoint in the store, as a recovered spot job does.
    """
    settings |= LORA | {"max_steps": 12, "micro_batch_size": 8, "save_strategy": "steps", "save_steps": 100}
    settings["trl"] |= {"generation_batch_size": 32, "num_generations": 4, "beta": 0.1}
    settings["datasets"] = [{"path": write_rows(tmp_path / "few.jsonl", PROMPTS[:8])}]  # one generation an epoch
    whole = run_once(settings | {"output_dir": str(tmp_path / "whole")})
    stopped = run_once(settings, stop_at=5, store=tmp_path / "store")
    assert (stopped.outcome.status, stopped.outcome.step) == ("stopped", 6)
    assert (tmp_path / "out/checkpoint-6/rollouts-00000.pt").is_file()
    shutil.rmtree(tmp_path / "out")
    resumed = run_once(settings, resume=True, store=tmp_path / "store")
    assert resumed.warnings == stopped.warnings, "none of answers that were made anew"
    for name in ("loss", "reward", "kl"):
        assert resumed.history(name) == pytest.approx(whole.history(name), rel=1e-5, abs=1e-7), name
    assert not (tmp_path / "out/ref").exists(), "the reference is the base with the adapter off"


@pytest.mark.slow
def test_several_rewards_with_columns_of_the_data(settings: dict[str, Any]) -> None:
    """And an epoch is as long as it was said to be: 16 prompts, four at a time, each generation used twice."""
    settings |= {"rl": "gdpo", "max_steps": None, "num_epochs": 1, "val_set_size": 8}
    settings["trl"] |= {"reward_funcs": ["own_rewards.good_words", "own_rewards.as_wished"], "reward_weights": [1, 2]}
    settings["trl"] |= {"num_iterations": 2}
    run = run_once(settings)
    assert run.outcome.step == run.outcome.total_steps == 8
    assert len(run.history("rewards/good_words/mean")) == len(run.history("rewards/as_wished/mean"))
    [total] = run.history("eval_reward")
    parts = [run.history(f"eval_rewards/{name}/mean")[0] for name in ("good_words", "as_wished")]
    assert total == pytest.approx(parts[0] + 2 * parts[1], abs=1e-6)


@pytest.mark.slow
def test_a_reward_model_judges_and_a_reference_holds_back(settings: dict[str, Any], word_model: Path) -> None:
    """The judge is a folder, as `ftl train` leaves it; without an adapter the reference is the base, loaded again."""
    judge = LlamaForSequenceClassification.from_pretrained(word_model, num_labels=1)
    folder = Path(settings["output_dir"]).parent / "judge"
    judge.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(word_model)
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    settings["trl"] |= {"reward_funcs": [str(folder)], "beta": 0.1}
    run = run_once(settings | {"max_steps": 2})
    assert run.history("rewards/judge/mean") == run.history("reward")
    first, second = run.history("kl")
    assert first == pytest.approx(0.0, abs=1e-6)
    assert second > 1e-4
    settings["trl"]["reward_funcs"] = [f"{folder}s"]
    with pytest.raises(FtlError, match="cannot load the reward model"):
        run_once(settings)


@pytest.mark.slow
def test_what_goes_wrong_in_a_reward_function_is_said(settings: dict[str, Any]) -> None:
    settings["trl"]["reward_funcs"] = ["own_rewards.broken"]
    with pytest.raises(FtlError, match=r"own_rewards\.broken failed: KeyError: 'answer'") as caught:
        run_once(settings)
    assert str(caught.value.hint).startswith("the answer that it was to judge: '")


def test_judges_are_held_to_their_word() -> None:
    def numbers(completions: list[str], **columns: Any) -> list[Any]:
        return [7 if text == "yes" else None for text in completions]

    def short(completions: list[str], **columns: Any) -> list[Any]:
        return [1.0]

    def words(completions: list[str], **columns: Any) -> list[Any]:
        return completions

    def picky(completions: list[str], **columns: Any) -> list[Any]:
        return [1 / (text != "bad") for text in completions]

    assert guarded("a.numbers", numbers)(prompts=["", ""], completions=["yes", "no"]) == [7.0, None]
    for judge, message in (
        (short, "a.f returned 1 rewards for 2 completions"),
        (words, "a.f returned 'good', which is no number"),
        (picky, "a.f failed: ZeroDivisionError"),
    ):
        with pytest.raises(FtlError, match=message) as caught:
            guarded("a.f", judge)(prompts=["", ""], completions=["good", "bad"])
    assert "'bad'" in str(caught.value.hint), "the answer that it failed on"


def test_an_async_judge_stays_one() -> None:
    async def later(completions: list[str], **columns: Any) -> list[Any]:
        return [1.0] * (len(completions) - 1)

    judge = guarded("a.later", later)
    assert inspect.iscoroutinefunction(judge)
    with pytest.raises(FtlError, match=r"a\.later returned 1 rewards"):
        asyncio.run(judge(prompts=["", ""], completions=["a", "b"]))


def options_of(lines: str, world_size: int = 1) -> dict[str, Any]:
    lines = f"rl: grpo\nmicro_batch_size: 4\ngradient_accumulation_steps: 2\n{lines}"
    return grpo_options(config_of(lines), world_size)


def test_arguments_from_keys() -> None:
    options = options_of("trl: {reward_funcs: [a.b]}\n")
    assert (options["beta"], options["disable_dropout"], options["num_generations_eval"]) == (0.0, False, 4)
    assert "temperature" not in options, "TRL's default"
    options = options_of(
        "trl: {reward_funcs: [a.b], num_generations: 4, beta: 0.2, temperature: 0.7, scale_rewards: false,"
        " epsilon_high: 0.28, sync_ref_model: true, chat_template_kwargs: {enable_thinking: false}}\n"
    )
    assert options["beta"] == 0.2
    assert (options["temperature"], options["epsilon_high"], options["scale_rewards"]) == (0.7, 0.28, False)
    assert (options["ref_model_mixup_alpha"], options["ref_model_sync_steps"]) == (0.9, 64)
    assert options["chat_template_kwargs"] == {"enable_thinking": False}
    assert options_of("rl_beta: 0.3\ntrl: {reward_funcs: [a.b]}\n")["beta"] == 0.3
    gdpo = config_of("rl: gdpo\ntrl: {reward_funcs: [a.b]}\nmicro_batch_size: 8\n")
    assert grpo_options(gdpo, 1)["multi_objective_aggregation"] == "normalize_then_sum"


def test_every_argument_is_one_of_trl() -> None:
    options = options_of("trl: {reward_funcs: [a.b], sync_ref_model: true, beta: 1}\n")
    named = {*options, *grpo_arguments._SAME_NAME, *grpo_arguments._VLLM.values()}
    assert named <= {field.name for field in dataclasses.fields(GRPOConfig)}


def test_ranks_fill_groups() -> None:
    """Two ranks that share a group of 16 do, three do not."""
    assert options_of("trl: {reward_funcs: [a.b]}\n", 3)["num_generations_eval"] == 4
    config = config_of("rl: grpo\nmicro_batch_size: 8\ntrl: {reward_funcs: [a.b], generation_batch_size: 24}\n")
    with pytest.raises(FtlError, match="24 answers are no whole number of batches"):
        grpo_options(config, 2)


def test_vllm_that_is_not_there_is_named() -> None:
    with pytest.raises(FtlError, match=r"trl\.use_vllm needs the package vllm") as caught:
        options_of("trl: {reward_funcs: [a.b], use_vllm: true}\n")
    assert "trl[vllm]" in str(caught.value.hint)
