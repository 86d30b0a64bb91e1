"""One cell of the table: some real steps of a family with a feature, through the runner's own parts."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from ftl_config import Config, load_text
from ftl_config.errors import FtlError
from ftl_runner.data import make_collator
from ftl_runner.data.encode import IGNORE_INDEX
from ftl_runner.failures import first_line
from ftl_runner.models.adapter import add_adapter
from ftl_runner.models.isolation import check_isolation, joins_sequences, make_layout, refuse_leaking_model
from ftl_runner.models.loader import load_base_model, load_model_config
from ftl_runner.models.precision import choose_precision
from ftl_runner.models.tokenizer import load_tokenizer
from ftl_runner.trainer.arguments import make_arguments, make_schedule
from ftl_runner.trainer.token_trainer import SftTrainer
from tests.families.architectures import Family
from tests.unit.runner.tiny_models import VOCABULARY, packed_rows, sequences, tiny_causal_model

KINDS = {
    "fp32": "bf16: false",
    "bf16": "bf16: true",
    "LoRA": "bf16: false\nadapter: lora\nlora_r: 4\nlora_target_linear: true",
    "QLoRA": "bf16: false\nadapter: qlora\nload_in_4bit: true\nlora_r: 4\nlora_target_linear: true",
}
FEATURES = (*(f"{kind}{how}" for kind in KINDS for how in ("", ", packed")), "checkpointing")
"""Columns of the table. A packed run follows the unpacked one, whose losses it has to give."""

STEPS = 3
_LINEAR = (torch.nn.Linear, Conv1D)
_GROUPS = [[0, 1, 2], [3, 4]]
_TOLERANCE = {"fp32": 2e-4, "LoRA": 2e-4, "QLoRA": 2e-4, "bf16": 3e-2, "checkpointing": 2e-4}
"""Of a loss against that of the same sequences in another layout."""


@dataclass(frozen=True)
class Cell:
    """What became of a feature: it ran, it failed for a reason, or it was not tried."""

    state: str
    reason: str | None = None


class Wrong(Exception):
    """Steps were made, and what came of them is not right."""


@contextmanager
def tiny_threads() -> Iterator[None]:
    """Tiny tensors: more threads than one only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_family(family: Family, folder: Path, features: tuple[str, ...] = FEATURES) -> dict[str, Cell]:
    """Every feature of one family; ``folder`` is for the model, which is written once."""
    if family.model_type is None:
        return dict.fromkeys(features, Cell("untested"))
    gc.freeze()  # the Trainer collects garbage at its end, and looks through all that was imported each time
    write_model(family, folder)
    losses: dict[str, list[float]] = {}
    cells = {}
    for feature in features:
        try:
            losses[feature] = run_feature(folder, feature)
            _compare(feature, losses)
            cells[feature] = Cell("ran")
        except FtlError as error:
            cells[feature] = Cell("failed", error.message)
        except Exception as error:  # the reason is what the table is for
            cells[feature] = Cell("failed", f"{type(error).__name__}: {first_line(error)}")
    gc.unfreeze()
    return cells


def write_model(family: Family, folder: Path) -> None:
    """The family's random model and a tokenizer of one word a token."""
    assert family.model_type is not None
    tiny_causal_model(family.model_type, None, **family.settings).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)


def word_tokenizer() -> Any:
    """A tokenizer whose words are the numbers of their tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3} | {str(number): number for number in range(4, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def run_feature(folder: Path, feature: str) -> list[float]:
    """Train some steps with a feature; the loss of each."""
    kind = feature.removesuffix(", packed")
    lines = "bf16: false\ngradient_checkpointing: true" if feature == "checkpointing" else KINDS[kind]
    return run_steps(folder, lines, packed=feature != kind)


def run_steps(folder: Path, lines: str, *, packed: bool = False) -> list[float]:
    """Train some steps of the model in a folder, with these lines of YAML; the loss of each.

    Raises:
        FtlError: the runner refuses the combination.
        Wrong: a loss is not finite, or something that should be trained did not move.
    """
    config = _config(folder, lines, packed=packed)
    torch.manual_seed(1)
    precision = choose_precision(config)
    refuse_leaking_model(config, load_model_config(config).model_type)
    tokenizer = load_tokenizer(config)
    base = load_base_model(config, tokenizer, precision)
    model = add_adapter(base, config)
    layout = make_layout(config, base.config)
    rows = _rows(packed=packed)
    trainer = SftTrainer(
        config=config,
        model=model,
        args=make_arguments(config, precision, make_schedule(config, len(rows), 1), 1),
        train_dataset=rows,
        data_collator=make_collator(config, tokenizer, packed=packed, layout=layout),
        processing_class=tokenizer,
    )
    if joins_sequences(config):
        check_isolation(base, layout)
    with _all_moves(model), _recomputing(base, wanted=bool(config.training.gradient_checkpointing)):
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    if len(losses) != STEPS or not all(math.isfinite(loss) for loss in losses):
        raise Wrong(f"losses are {losses}")
    return losses


def _config(folder: Path, lines: str, *, packed: bool) -> Config:
    """All sequences in every step, so that packed and unpacked steps see the same tokens."""
    return load_text(
        f"base_model: {folder}\noutput_dir: {folder}/out\nlearning_rate: 1e-2\nmax_steps: {STEPS}\nwarmup_steps: 0\n"
        f"micro_batch_size: {2 if packed else 5}\nsequence_len: 32\nlogging_steps: 1\nsave_strategy: no\n"
        f"sample_packing: {str(packed).lower()}\npad_to_sequence_len: {str(packed).lower()}\n"
        f"optimizer: adamw_torch\nlr_scheduler: constant\n{lines}",
        name="family.yml",
        partial=True,
    ).config


def _rows(*, packed: bool) -> list[dict[str, Any]]:
    rows = sequences()
    if packed:
        return packed_rows(rows, _GROUPS)
    return [{"input_ids": row, "labels": [IGNORE_INDEX, *row[1:]]} for row in rows]


@contextmanager
def _recomputing(model: Any, *, wanted: bool) -> Iterator[None]:
    """With ``gradient_checkpointing`` the first block runs twice a step."""
    if not wanted:
        yield
        return
    calls: list[str] = []
    names = [name for name, module in model.named_modules() if ".0." in name and isinstance(module, _LINEAR)]
    hook = model.get_submodule(names[0]).register_forward_hook(lambda *_: calls.append(names[0]))
    yield
    hook.remove()
    if len(calls) != 2 * STEPS:
        raise Wrong("activations were not recomputed")


@contextmanager
def _all_moves(model: Any) -> Iterator[None]:
    """What is trained has to move; what is not may not."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    yield
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    if moved - trained:
        raise Wrong(f"frozen parameters moved: {', '.join(sorted(moved - trained)[:3])}")
    still = {name for name in trained - moved if not _may_stay(name)}
    if still:
        raise Wrong(f"trained parameters did not move: {', '.join(sorted(still)[:3])}")


def _may_stay(name: str) -> bool:
    """Experts that no token was sent to."""
    return "expert" in name


def _compare(feature: str, losses: dict[str, list[float]]) -> None:
    """A packed step is the unpacked step, and so is one with recomputed activations."""
    kind = feature.removesuffix(", packed")
    other = "fp32" if feature == "checkpointing" else kind
    if other == feature or other not in losses:
        return
    difference = max(abs(a - b) for a, b in zip(losses[feature], losses[other], strict=True))
    if difference > _TOLERANCE[kind]:
        raise Wrong(f"losses differ by {difference:.2g} from those of {other}")
