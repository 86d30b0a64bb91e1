"""The page of model families says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.families.architectures import FAMILIES
from tests.families.table import PAGE, read_page, write_page
from tests.families.trial import FEATURES, Cell, run_family, tiny_threads

AGAIN = ("Mixtral 8x22B", "Pythia", "Falcon", "GPT-J", "Qwen 3 MoE", "Gemma 3", "Jamba", "LFM2")
"""One of each kind of attention, position, expert and state."""


def test_page_has_every_family_and_feature() -> None:
    written = read_page()
    assert list(written) == [family.name for family in FAMILIES]
    assert {tuple(cells) for cells in written.values()} == {FEATURES}
    for family in FAMILIES:
        if family.model_type is None:
            assert set(written[family.name].values()) == {"untested"}
        else:
            assert "untested" not in written[family.name].values()


def test_page_names_versions_of_today() -> None:
    import transformers

    assert f"transformers {transformers.__version__}" in PAGE.read_text(encoding="utf-8")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    cells = dict.fromkeys(FEATURES, Cell("ran")) | {"LoRA": Cell("failed", "no | such thing"), "bf16": Cell("untested")}
    write_page({family.name: cells for family in FAMILIES}, tmp_path / "page.md")
    read = read_page(tmp_path / "page.md")
    assert all(row == {name: cell.state for name, cell in cells.items()} for row in read.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", AGAIN)
def test_family_does_what_the_page_says(name: str, tmp_path: Path) -> None:
    family = next(family for family in FAMILIES if family.name == name)
    with tiny_threads():
        cells = run_family(family, tmp_path)
    assert {feature: cell.state for feature, cell in cells.items()} == read_page()[name]
