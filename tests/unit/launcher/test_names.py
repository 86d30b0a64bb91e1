"""Names of runs."""

from __future__ import annotations

import pytest

from ftl_config.errors import FtlError
from ftl_launcher.names import MAX_LENGTH, check_run_name, default_run_name


@pytest.mark.parametrize("name", ["a", "llama-3-lora", "x" * MAX_LENGTH, "0"])
def test_good_names(name: str) -> None:
    assert check_run_name(name) == name


@pytest.mark.parametrize("name", ["", "Llama", "a_b", "-a", "a-", "a/b", "x" * (MAX_LENGTH + 1), "../up"])
def test_bad_names_get_a_suggestion(name: str) -> None:
    with pytest.raises(FtlError) as caught:
        check_run_name(name)
    assert caught.value.exit_code == 2
    assert check_run_name((caught.value.hint or "").split()[-1])


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("configs/My_Llama.v2.yml", "my-llama-v2"),
        ("-", "stdin"),
        ("https://example.org/a/b.yaml?x=1", "b"),
        ("???.yml", "run"),
        ("x" * 99 + ".yml", "x" * (MAX_LENGTH - 5)),
    ],
)
def test_default_name(source: str, stem: str) -> None:
    name = default_run_name(source)
    assert name[:-5] == stem
    assert check_run_name(name) == name
    assert default_run_name(source) != name
