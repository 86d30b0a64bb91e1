"""A model so small that starting processes is all that takes time, and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DATA
from tests.e2e.ftl_cli import Ftl
from tests.tiny_llama import write_tiny_llama


@pytest.fixture(scope="session")
def mini_model(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 2 layers with a vocabulary of 512; beside it, ``-untied``, one with a head of its own.

    Few enough weights that PyTorch's float32 norms on a CPU are good to six digits: over the 3 million of a vocabulary
    of 49152 they are off by 2e-4, in ways that depend on how the weights are cut up.
    """
    from transformers import AutoTokenizer

    target = tmp_path_factory.mktemp("models") / "mini-llama"
    texts = [turn["content"] for line in DATA.read_text().splitlines() for turn in json.loads(line)["messages"]]
    tokenizer = AutoTokenizer.from_pretrained(smollm2).train_new_from_iterator(texts, 512)
    for folder, tied in ((target, True), (target.with_name("mini-llama-untied"), False)):
        write_tiny_llama(folder, tokenizer, tied=tied)
    return target


@pytest.fixture(scope="module")
def ftl(tmp_path_factory: pytest.TempPathFactory) -> Ftl:
    """The command line; its folder is kept for the module, so that runs can be compared."""
    folder = tmp_path_factory.mktemp("runs")
    return Ftl(folder / "home", folder, {"OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def settings(mini_model: Path, small_data: Path, ftl: Ftl) -> dict[str, Any]:
    """A config that shows every error of scale.

    Adam divides a gradient by its own size, so that a wrong loss or a wrong clip would hardly show: a large epsilon
    takes that away. Clipping is always on.
    """
    return {
        "base_model": str(mini_model),
        "datasets": [{"path": str(small_data), "type": "chat_template"}],
        "dataset_prepared_path": str(ftl.cwd / "prepared"),
        "val_set_size": 9,  # an odd number: one rank has fewer
        "eval_steps": 3,
        "sequence_len": 512,
        "max_steps": 6,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 0.02,
        "lr_scheduler": "constant",
        "optimizer": "adamw_torch",
        "adam_epsilon": 0.01,
        "weight_decay": 0.01,
        "max_grad_norm": 0.1,
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_steps": 3,
        "seed": 7,
        "generate_samples": False,
    }
