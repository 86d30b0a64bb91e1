"""The shipped examples train SmolLM2-135M on their data, and what each method is meant to move, moves.

Two of them by default; FTL_FULL_MATRIX=1 runs all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ftl_cli import Ftl, read_metrics
from tests.full_matrix import FULL_MATRIX
from tests.services.s3 import ROOT

pytestmark = pytest.mark.slow

History = list[dict[str, Any]]
SHORT = ["--micro-batch-size", "2", "--gradient-accumulation-steps", "1", "--learning-rate", "1e-3", "--max-steps", "8"]
EVERY_STEP = ["--logging-steps", "1", "--warmup-steps", "0", "--no-gradient-checkpointing", "--sequence-len", "96"]


def column(name: str) -> Callable[[History], list[float]]:
    return lambda history: [row[name] for row in history if name in row]


def negated_loss(history: History) -> list[float]:
    return [-value for value in column("loss")(history)]


CASES: dict[str, tuple[Callable[[History], list[float]], list[str]]] = {
    "dpo": (column("rewards/margins"), ["--val-set-size", "0"]),
    "kto": (negated_loss, ["--val-set-size", "0"]),
    "orpo": (column("log_odds_chosen"), ["--val-set-size", "0"]),
    "simpo": (column("rewards/margins"), ["--val-set-size", "0"]),
    "reward-model": (column("margin"), []),
    "process-reward-model": (negated_loss, []),
    "grpo": (column("reward"), ["--micro-batch-size", "8", "--max-steps", "12", "--learning-rate", "5e-4"]),
}
DEFAULT = {"dpo", "reward-model"}
CHOSEN = sorted(CASES if FULL_MATRIX else DEFAULT)


@pytest.mark.parametrize("method", CHOSEN)
def test_example_moves_its_metric(method: str, smollm2: Path, tmp_path: Path) -> None:
    metric, extra = CASES[method]
    out = tmp_path / "out"
    places = ["--base-model", str(smollm2), "--output-dir", str(out), "--dataset-prepared-path", str(tmp_path / "data")]
    example = f"templates/examples/smollm2-{method}.yml"
    Ftl(tmp_path / "home", ROOT, {"HF_HUB_OFFLINE": "1"}).run("train", example, *places, *EVERY_STEP, *SHORT, *extra)
    values = metric(read_metrics(out)["history"])
    assert len(values) >= 8
    assert sum(values[-3:]) / 3 > sum(values[:3]) / 3, values
    assert (out / "adapter_config.json").is_file()
