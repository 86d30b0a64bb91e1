"""The loss is a mean over trained tokens, in training and evaluation, however rows are batched; tokens are counted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from ftl_runner.data.collate import Layout, PackedCollator, PaddedCollator
from ftl_runner.models.adapter import add_adapter
from ftl_runner.trainer.token_trainer import TokenTrainer
from tests.unit.runner.snippets import config_of
from tests.unit.runner.tiny_models import tiny_causal_model
from tests.unit.runner.uneven_ranks import IGNORE, ROWS, mean_loss, packed_trainer_rows

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tiny tensors: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trainer_of(folder: Path, model: Any, collator: Any, rows: Any, evaluation: Any = None, **options: Any) -> Any:
    own = {"trained_positions_only": options.pop("trained_positions_only", True)}
    arguments = TrainingArguments(
        str(folder),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        max_grad_norm=0.0,
        optim="sgd",
        learning_rate=1.0,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        **options,
    )
    return TokenTrainer(
        model=model, args=arguments, train_dataset=rows, eval_dataset=evaluation, data_collator=collator, **own
    )


def step(folder: Path, collator: Any, rows: Any, kind: str = "llama", **options: Any) -> tuple[float, list[Any]]:
    """Loss and update of one step over all rows: with plain SGD at rate 1 the update is the gradient."""
    model = tiny_causal_model(kind)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    trainer = trainer_of(folder, model, collator, rows, max_steps=1, **options)
    trainer.train()
    update = [new.detach() - old for new, old in zip(model.parameters(), before, strict=True)]
    return trainer.state.log_history[0]["loss"], update


def padded(layout: Layout | None = None) -> PaddedCollator:
    return PaddedCollator(0, joined=PackedCollator(0, layout=layout))


def assert_same(left: tuple[float, list[Any]], right: tuple[float, list[Any]]) -> None:
    assert left[0] == pytest.approx(right[0], abs=1e-5)
    for one, other in zip(left[1], right[1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.fixture(scope="module")
def all_at_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, list[Any]]:
    folder = tmp_path_factory.mktemp("reference")
    result = step(folder, padded(), ROWS, per_device_train_batch_size=len(ROWS), trained_positions_only=False)
    assert result[0] == pytest.approx(mean_loss(ROWS), abs=1e-5)
    return result


@pytest.mark.parametrize(
    ("collator", "rows", "micro_batch", "head"),
    [
        (padded(), ROWS, 1, False),
        (padded(), ROWS, 1, True),
        pytest.param(padded(), ROWS, 3, True, marks=pytest.mark.slow),
        (padded(Layout(flatten=True)), ROWS, 2, True),
        pytest.param(PackedCollator(0, 24), packed_trainer_rows(), 1, True, marks=pytest.mark.slow),
        (PackedCollator(0, 24), packed_trainer_rows(), 3, True),
        (PackedCollator(0, 24, layout=Layout(one_row=True)), packed_trainer_rows(), 3, False),
    ],
    ids=["micro-1", "micro-1-head", "micro-3", "flattened", "packed-1", "packed-3", "packed-joined"],
)
def test_a_step_does_not_depend_on_batching(
    collator: Any, rows: Any, micro_batch: int, head: bool, all_at_once: tuple[float, list[Any]], tmp_path: Path
) -> None:
    """Rows have from 1 to 11 trained tokens: a mean of means would be far off."""
    accumulation = len(rows) // micro_batch
    batching = {"per_device_train_batch_size": micro_batch, "gradient_accumulation_steps": accumulation}
    assert_same(step(tmp_path, collator, rows, **batching, trained_positions_only=head), all_at_once)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("kind", ["gemma2", pytest.param("granite", marks=SLOW), pytest.param("mixtral", marks=SLOW)])
def test_the_head_at_trained_positions(kind: str, tmp_path: Path) -> None:
    """Soft-capped and scaled logits, and a loss with a part for the router."""
    options = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}
    results = [step(tmp_path, padded(), ROWS, kind, **options, trained_positions_only=on) for on in (True, False)]
    assert_same(*results)


def test_the_head_sees_trained_positions_only(tmp_path: Path) -> None:
    model = tiny_causal_model("llama")
    seen: list[int] = []
    model.lm_head.register_forward_hook(lambda _, arguments, out: seen.append(out.shape[:-1].numel()))
    trainer = trainer_of(
        tmp_path, model, padded(), ROWS, ROWS, max_steps=2, per_device_train_batch_size=3, per_device_eval_batch_size=6
    )
    trainer.train()
    trainer.evaluate()
    trained = sum(sum(label != IGNORE for label in row["labels"][1:]) for row in ROWS)
    assert sum(seen[:2]) == trained
    assert seen[2] == trained
    with torch.no_grad():
        assert model(torch.tensor([ROWS[0]["input_ids"]])).logits.shape[1] == len(ROWS[0]["input_ids"])


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param("lora_target_modules: [q_proj, v_proj]", marks=SLOW),
        pytest.param("lora_target_modules: [q_proj, lm_head]", marks=SLOW),
        "lora_target_modules: [q_proj]\nlora_modules_to_save: [lm_head, embed_tokens]",
    ],
)
def test_the_head_of_an_adapted_model(lines: str, tmp_path: Path) -> None:
    """The head itself, its copy to be trained, and its adapter."""
    results = []
    for on in (True, False):
        model = add_adapter(tiny_causal_model("llama"), config_of(f"adapter: lora\nlora_dropout: 0.0\n{lines}"))
        options = {"per_device_train_batch_size": 3, "max_steps": 2, "trained_positions_only": on}
        trainer = trainer_of(tmp_path, model, padded(), ROWS, **options)
        trainer.train()
        trained = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
        results.append((trainer.state.log_history[1]["loss"], trained))
    assert_same(*results)


def test_a_micro_batch_without_a_trained_token(all_at_once: tuple[float, list[Any]], tmp_path: Path) -> None:
    nothing = {"input_ids": [5, 6, 7], "labels": [IGNORE] * 3}
    options = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 7}
    assert_same(step(tmp_path, padded(), [*ROWS, nothing], **options), all_at_once)


def test_a_model_that_averages_its_own_loss(all_at_once: tuple[float, list[Any]], tmp_path: Path) -> None:
    """As Gemma 3's with images: transformers would take the mean of the micro-batches' means."""
    model = tiny_causal_model("llama")
    type(model).accepts_loss_kwargs = False
    try:
        result = step(tmp_path, padded(), ROWS, per_device_train_batch_size=1, gradient_accumulation_steps=len(ROWS))
    finally:
        del type(model).accepts_loss_kwargs
    assert_same(result, all_at_once)


@pytest.mark.parametrize("collator", [padded(), PackedCollator(0, 24)], ids=["padded", "packed"])
@pytest.mark.parametrize("batch", [1, 4])
def test_evaluation_is_a_mean_over_tokens(collator: Any, batch: int, tmp_path: Path) -> None:
    rows = ROWS if isinstance(collator, PaddedCollator) else packed_trainer_rows()
    trainer = trainer_of(tmp_path, tiny_causal_model("llama"), collator, None, rows, per_device_eval_batch_size=batch)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(mean_loss(ROWS), abs=1e-5)


def test_no_cache_is_made(tmp_path: Path) -> None:
    """A cache lets packed sequences see each other: not even where somebody turned it on."""
    model = tiny_causal_model("llama")
    model.config.use_cache = True
    trainer = trainer_of(
        tmp_path, model, PackedCollator(0, 24), None, packed_trainer_rows(), per_device_eval_batch_size=2
    )
    caches: list[Any] = []
    model.register_forward_hook(lambda _, arguments, out: caches.append(out.get("past_key_values")))
    assert trainer.evaluate()["eval_loss"] == pytest.approx(mean_loss(ROWS), abs=1e-5)
    assert caches == [None, None]


def test_tokens_are_counted(tmp_path: Path) -> None:
    for collator, rows in ((padded(), ROWS), (PackedCollator(0, 24), packed_trainer_rows())):
        trainer = trainer_of(
            tmp_path, tiny_causal_model("llama"), collator, rows, num_train_epochs=2, per_device_train_batch_size=3
        )
        trainer.train()
        assert int(trainer.token_count.seen) == 2 * sum(len(row["input_ids"]) for row in ROWS)
        trained = sum(sum(label != IGNORE for label in row["labels"][1:]) for row in ROWS)
        assert int(trainer.token_count.trained) == 2 * trained


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [None, 2])
def test_two_ranks_with_uneven_tokens(zero_stage: int | None, tmp_path: Path) -> None:
    """Accumulation 3 on 2 ranks, one with far fewer trained tokens; 5 rows to evaluate, so that one rank has fewer."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m"]
    command += ["tests.unit.runner.uneven_ranks", str(tmp_path), str(zero_stage or "")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stderr[-3000:]
    found = torch.load(tmp_path / "result.pt")
    expected = step(tmp_path, padded(), ROWS, per_device_train_batch_size=len(ROWS))
    assert_same((found["loss"], found["update"]), expected)
    assert found["eval_loss"] == pytest.approx(mean_loss(ROWS[:5], found["update"]), abs=1e-5)
    assert found["trained"] == sum(sum(label != IGNORE for label in row["labels"][1:]) for row in ROWS)
