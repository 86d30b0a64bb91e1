"""Preference methods on a tiny model: the losses are those of the papers, and what each is to move moves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, logsigmoid

from tests.unit.runner.preference_support import first_batch, history, judged, pairs, trainer_of
from tests.unit.runner.tiny_models import tiny_causal_model

LORA = "adapter: lora\nlora_r: 8\nlora_alpha: 16\nlora_target_linear: true\nlearning_rate: 1e-2"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tiny tensors: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def answer_log_probs(model: Any, batch: dict[str, Any], prefix: str = "") -> tuple[torch.Tensor, torch.Tensor]:
    """Sums over each answer's tokens, from the logits, one row at a time without padding; and their counts."""
    sums, counts = [], []
    keys = (f"{prefix}{name}" for name in ("input_ids", "attention_mask", "completion_mask"))
    for ids, tokens, answer in zip(*(batch[key] for key in keys), strict=True):
        length = int(tokens.sum())
        logits = model(input_ids=ids[None, :length], use_cache=False).logits[0]
        found = torch.log_softmax(logits.double(), -1)[torch.arange(length - 1), ids[1:length]]
        sums.append(found[answer[1:length].bool()].sum())
        counts.append(int(answer.sum()))
    return torch.stack(sums), torch.tensor(counts)


def moved(trainer: Any) -> Any:
    """After a few steps, so that policy and reference differ."""
    trainer.train()
    trainer.model.eval()
    return trainer


@torch.no_grad()
def test_dpo_starts_at_ln_2_and_its_loss_is_the_papers(tmp_path: Path) -> None:
    with torch.enable_grad():
        trainer = moved(trainer_of("rl: dpo\nrl_beta: 0.3\nmax_steps: 4", tmp_path))
    assert history(trainer, "loss")[0] == pytest.approx(math.log(2), abs=1e-6)
    assert history(trainer, "rewards/margins")[0] == pytest.approx(0, abs=1e-6)
    batch = first_batch(trainer)
    chosen, rejected = answer_log_probs(trainer.model, batch)[0].chunk(2)
    base_chosen, base_rejected = answer_log_probs(tiny_causal_model("llama"), batch)[0].chunk(2)
    wanted = -logsigmoid(0.3 * ((chosen - base_chosen) - (rejected - base_rejected))).mean()
    assert float(trainer.compute_loss(trainer.model, batch)) == pytest.approx(float(wanted), rel=1e-4)
    assert abs(float(wanted) - math.log(2)) > 0.05


@torch.no_grad()
def test_ipo_is_dpo_with_its_loss(tmp_path: Path) -> None:
    """The square of mean log ratios' difference less 1 / (2 beta)."""
    with torch.enable_grad():
        trainer = moved(trainer_of("rl: ipo\nrl_beta: 0.5\nmax_steps: 3", tmp_path))
    assert history(trainer, "loss")[0] == pytest.approx(1.0, abs=1e-5)
    batch = first_batch(trainer)
    sums, counts = answer_log_probs(trainer.model, batch)
    ratios = (sums - answer_log_probs(tiny_causal_model("llama"), batch)[0]) / counts
    wanted = ((ratios[:8] - ratios[8:] - 1.0) ** 2).mean()
    assert float(trainer.compute_loss(trainer.model, batch)) == pytest.approx(float(wanted), rel=1e-4)


@torch.no_grad()
def test_losses_are_added_with_their_weights(tmp_path: Path) -> None:
    lines = "rl: dpo\ndpo_loss_type: [sigmoid, sft]\ndpo_loss_weights: [2, 0.5]\nmax_steps: 1"
    trainer = trainer_of(lines, tmp_path)
    batch = first_batch(trainer)
    sums, counts = answer_log_probs(trainer.model, batch)
    wanted = 2 * math.log(2) - 0.5 * float(sums[:8].sum() / counts[:8].sum())
    assert float(trainer.compute_loss(trainer.model, batch)) == pytest.approx(wanted, rel=1e-4)


@torch.no_grad()
def test_kto_loss_is_the_papers(tmp_path: Path) -> None:
    """Against the mean log ratio of answers behind the prompts of their neighbours."""
    with torch.enable_grad():
        trainer = moved(trainer_of("rl: kto\nrl_beta: 0.4\nkto_desirable_weight: 1.5\nmax_steps: 4", tmp_path))
    assert history(trainer, "loss")[0] == pytest.approx((1.5 * 0.5 + 0.5) / 2, abs=1e-5)
    batch = first_batch(trainer)
    base = tiny_causal_model("llama")
    ratios = answer_log_probs(trainer.model, batch)[0] - answer_log_probs(base, batch)[0]
    moved_by = answer_log_probs(trainer.model, batch, "KL_")[0] - answer_log_probs(base, batch, "KL_")[0]
    far = moved_by.mean().clamp(min=0)
    good = batch["label"]
    losses = torch.where(good, 1.5 * (1 - torch.sigmoid(0.4 * (ratios - far))), 1 - torch.sigmoid(0.4 * (far - ratios)))
    assert float(trainer.compute_loss(trainer.model, batch)) == pytest.approx(float(losses.mean()), rel=1e-4)


def test_kto_puts_each_answer_behind_the_next_prompt(tmp_path: Path) -> None:
    trainer = trainer_of("rl: kto\nmax_steps: 1", tmp_path)
    rows = [trainer.train_dataset[number] for number in range(3)]
    batch = trainer.data_collator(rows)
    for number, row in enumerate(rows):
        ids = batch["KL_input_ids"][number][batch["KL_attention_mask"][number].bool()].tolist()
        assert ids == (row["prompt_ids"] + rows[number - 1]["completion_ids"])[:24]
        assert batch["KL_completion_mask"][number].sum() == len(ids) - len(row["prompt_ids"])


@torch.no_grad()
def test_orpo_loss_is_the_papers(tmp_path: Path) -> None:
    with torch.enable_grad():
        trainer = moved(trainer_of("rl: orpo\norpo_alpha: 0.7\nmax_steps: 3", tmp_path))
    batch = first_batch(trainer)
    model = trainer.model
    sums, counts = answer_log_probs(model, batch)
    mean = sums / counts
    log_odds = mean - torch.log(1 - torch.exp(mean))
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)[:8]
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits[:8]
    likelihood = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    wanted = likelihood - 0.7 * logsigmoid(log_odds[:8] - log_odds[8:]).mean()
    assert float(trainer.compute_loss(model, batch)) == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@torch.no_grad()
def test_simpo_loss_is_the_papers(alpha: float, tmp_path: Path) -> None:
    lines = f"rl: simpo\nrl_beta: 2\nsimpo_gamma: 0.8\ncpo_alpha: {alpha}\nmax_steps: 3"
    with torch.enable_grad():
        trainer = moved(trainer_of(lines, tmp_path))
    batch = first_batch(trainer)
    sums, counts = answer_log_probs(trainer.model, batch)
    chosen, rejected = (sums / counts).chunk(2)
    wanted = -logsigmoid(2 * (chosen - rejected) - 0.8).mean() - alpha * sums[:8].sum() / counts[:8].sum()
    assert float(trainer.compute_loss(trainer.model, batch)) == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gemma2", "granite", "mixtral", "gpt2", "falcon", "lfm2"])
@torch.no_grad()
def test_log_probabilities_are_those_of_the_logits(kind: str, tmp_path: Path) -> None:
    """Soft-capped and scaled logits, experts, other places for the head."""
    lines = "rl: simpo\nrl_beta: 2\ncpo_alpha: 0.3\nmax_steps: 1"
    trainer = trainer_of(lines, tmp_path, model=tiny_causal_model(kind))
    trainer.model.eval()
    batch = first_batch(trainer)
    sums, counts = answer_log_probs(trainer.model, batch)
    chosen, rejected = (sums / counts).chunk(2)
    wanted = -logsigmoid(2 * (chosen - rejected) - 0.5).mean() - 0.3 * sums[:8].sum() / counts[:8].sum()
    assert float(trainer.compute_loss(trainer.model, batch)) == pytest.approx(float(wanted), rel=1e-4)


MOVES = {
    "dpo": "rl: dpo",
    "dpo-lora": f"rl: dpo\n{LORA}",
    "dpo-sft": "rl: dpo\ndpo_loss_type: [sigmoid, sft]\ndpo_loss_weights: [1, 0.1]",
    "dpo-robust": "rl: dpo\ndpo_loss_type: [robust]\ndpo_label_smoothing: 0.1\ndpo_use_weighting: true",
    "ipo": f"rl: ipo\n{LORA}",
    "kto": "rl: kto",
    "kto-lora": f"rl: kto\n{LORA}",
    "orpo": "rl: orpo",
    "simpo": f"rl: simpo\nrl_beta: 2\ncpo_alpha: 0\n{LORA}",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MOVES)
def test_good_answers_win(name: str, tmp_path: Path) -> None:
    """On rows that were not trained on too: margins rise, and the judged answers part."""
    evaluation = judged(48) if name.startswith("kto") else pairs(48)
    evaluation = evaluation.select(range(32, 48))
    lines = MOVES[name] + "\nmax_steps: 24\neval_strategy: steps\neval_steps: 24"
    trainer = trainer_of(lines, tmp_path, evaluation=evaluation)
    trainer.train()
    first, last = history(trainer, "rewards/margins")[0], history(trainer, "rewards/margins")[-1]
    assert last > first + 0.1
    assert history(trainer, "eval_rewards/margins")[0] > first + (0.03 if name.startswith("kto") else 0.1)
    assert history(trainer, "eval_rewards/chosen")[0] > history(trainer, "eval_rewards/rejected")[0]
    assert history(trainer, "loss")[-1] < history(trainer, "loss")[0]
    assert history(trainer, "eval_loss")
    if not name.startswith("kto"):
        assert history(trainer, "eval_rewards/accuracies")[0] == 1.0
    if name == "orpo":
        assert history(trainer, "log_odds_chosen")[-1] > history(trainer, "log_odds_chosen")[0] + 0.1
        assert history(trainer, "nll_loss")[-1] < history(trainer, "nll_loss")[0]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "kto"])
@pytest.mark.parametrize("adapter", ["", LORA])
def test_asking_the_reference_first_changes_nothing(method: str, adapter: str, tmp_path: Path) -> None:
    evaluation = judged(8) if method == "kto" else pairs(8)
    lines = f"rl: {method}\n{adapter}\nmax_steps: 6\neval_strategy: steps\neval_steps: 6\n"
    first = trainer_of(lines, tmp_path / "a", evaluation=evaluation)
    second = trainer_of(lines + "precompute_ref_log_probs: true\n", tmp_path / "b", evaluation=evaluation)
    first.train()
    second.train()
    assert second.ref_model is None
    assert {"prompt_ids", *second.reference_columns} <= set(second.train_dataset.column_names)
    for name in ("loss", "eval_loss", "rewards/margins"):
        assert history(second, name) == pytest.approx(history(first, name), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("lines", ["rl: dpo", f"rl: dpo\n{LORA}", f"rl: kto\n{LORA}", "rl: orpo", f"rl: simpo\n{LORA}"])
def test_a_resumed_run_goes_on_exactly(lines: str, tmp_path: Path) -> None:
    """Across the end of an epoch (4 steps); the reference is the base again, not what was resumed."""
    lines += "\nmax_steps: 9\nsave_strategy: steps\nsave_steps: 3\n"
    whole = trainer_of(lines, tmp_path)
    whole.train()
    again = trainer_of(lines, tmp_path)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    for name in ("loss", "rewards/margins", "rewards/chosen"):
        assert history(again, name) == pytest.approx(history(whole, name), abs=1e-6)


def test_a_new_adapter_needs_no_copy(tmp_path: Path) -> None:
    trainer = trainer_of(f"rl: dpo\n{LORA}\nmax_steps: 1", tmp_path)
    assert trainer.ref_model is None
    assert list(trainer.model.peft_config) == ["default"]


def test_an_adapter_on_a_quantized_base_keeps_its_precision(tmp_path: Path) -> None:
    """TRL rounds it to bfloat16."""
    model = tiny_causal_model("llama")
    model.is_loaded_in_4bit = True
    trainer = trainer_of(f"rl: dpo\n{LORA}\nmax_steps: 1", tmp_path, model=model)
    assert {value.dtype for value in trainer.model.parameters() if value.requires_grad} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_training_goes_on_from_an_adapter(method: str, tmp_path: Path) -> None:
    """The reference is the adapter as it was at the start, in a resumed run too; only the trained one is the result."""
    first = trainer_of(f"rl: {method}\n{LORA}\nmax_steps: 6", tmp_path / "first")
    first.train()
    first.save_model(str(tmp_path / "start"))
    lines = f"rl: {method}\n{LORA}\nlora_model_dir: {tmp_path / 'start'}\n"
    lines += "max_steps: 6\nsave_strategy: steps\nsave_steps: 3"
    whole = trainer_of(lines, tmp_path / "second")
    whole.train()
    assert history(whole, "rewards/margins")[0] == pytest.approx(0, abs=1e-5)
    again = trainer_of(lines, tmp_path / "second")
    again.train(resume_from_checkpoint=str(tmp_path / "second/checkpoint-3"))
    assert history(again, "loss") == pytest.approx(history(whole, "loss"), abs=1e-6)
    again.save_model(str(tmp_path / "result"))
    assert not (tmp_path / "result/ref").exists()
    assert (tmp_path / "result/adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_micro_batches_are_averaged(tmp_path: Path) -> None:
    """Equal micro-batches make the step of one batch, with and without a reference model."""
    for method in ("dpo", "simpo"):
        small = f"rl: {method}\nmax_steps: 3\nmicro_batch_size: 4\ngradient_accumulation_steps: 2\n"
        big = trainer_of(f"rl: {method}\ncpo_alpha: 0\nmax_steps: 3", tmp_path / "big")
        split = trainer_of(small + "cpo_alpha: 0", tmp_path / "split")
        big.train()
        split.train()
        assert history(split, "loss") == pytest.approx(history(big, "loss"), abs=1e-5)


def test_the_trainer_keeps_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No telemetry, no model card, no second tokenization."""
    sent: list[Any] = []
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", lambda *args, **_: sent.append(args))
    monkeypatch.delenv("CI", raising=False)
    rows = pairs(8)
    trainer = trainer_of("rl: dpo\nmax_steps: 1\nsave_strategy: steps\nsave_steps: 1", tmp_path, rows=rows)
    trainer.train()
    assert not sent
    assert not (tmp_path / "README.md").exists()
    assert trainer.train_dataset is rows
    assert int(trainer.token_count.seen) == int(first_batch(trainer)["attention_mask"].sum())
    assert json.loads((tmp_path / "checkpoint-1/trainer_state.json").read_text())["global_step"] == 1
