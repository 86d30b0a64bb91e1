"""The example configs load without a word, what they name is there, and their reward functions judge."""

from __future__ import annotations

from pathlib import Path

import pytest
from templates.examples.answer_rewards import ends, short

from ftl_config import load_config
from tests.unit.docs.pages import ROOT

EXAMPLES = sorted((ROOT / "templates/examples").glob("smollm2-*.yml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_loads(path: Path) -> None:
    loaded = load_config(path)
    assert [warning.message for warning in loaded.warnings] == []
    data = loaded.config.data
    for entry in (*(data.datasets or ()), *(data.test_datasets or ())):
        assert (ROOT / str(entry.path)).is_file()
    trl = loaded.config.preference.trl
    for name in (trl.reward_funcs if trl else None) or ():
        assert name.rpartition(".")[2] in {"short", "ends"}
        assert (ROOT / f"{name.rpartition('.')[0].replace('.', '/')}.py").is_file()


def test_rewards_of_the_example() -> None:
    answers = [[{"role": "assistant", "content": text}] for text in ("Yes.", "one two three four five", "")]
    assert short(completions=answers) == [0.96, 0.8, 1.0]
    assert ends(completions=answers) == [1.0, 0.0, 0.0]
