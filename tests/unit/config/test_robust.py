"""Whatever is written, the answer is a config or a ConfigError: never another exception."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from ftl_config import ConfigError, load_text
from ftl_config.axolotl import table

KEYS = sorted(name for name in table() if "." not in name)
SNIPPETS = st.sampled_from(
    [
        "- ",
        ": ",
        "\n",
        "\n  ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "<<: ",
        "|\n",
        "'",
        '"',
        "#",
        "!!str ",
        "---\n",
        "~",
        "\t",
        "...",
        ",",
    ]
)
YAMLISH = st.lists(SNIPPETS | st.sampled_from(KEYS) | st.text(max_size=6), max_size=30).map("".join)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(YAMLISH)
def test_any_text(text: str) -> None:
    with suppress(ConfigError):
        load_text(text, partial=True, allow_unknown=True)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), st.booleans())
def test_any_value_for_any_key(values: dict[str, object], statuses: bool) -> None:
    import yaml

    text = yaml.dump(values, allow_unicode=True)
    with suppress(ConfigError):
        load_text(text, partial=False, statuses=statuses)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(KEYS).map("--{}".format)
        | st.text(max_size=8)
        | st.sampled_from(["--datasets.0.path", "--launch.env.A"]),
        max_size=6,
    )
)
def test_any_flags(argv: list[str]) -> None:
    with suppress(ConfigError):
        load_text("datasets: [{path: x}]", argv, partial=True)
