"""YAML and its pitfalls."""

from __future__ import annotations

import pytest

from ftl_config.errors import ConfigError, Problem
from ftl_config.nodes import to_value
from ftl_config.parse import MAX_BYTES, parse_flag_value, parse_yaml


def values(text: str) -> object:
    root, problems = parse_yaml(text, "c.yml")
    assert not problems
    return to_value(root)


def the_problem(text: str) -> Problem:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "c.yml")
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2e-4", 2e-4),
        ("2E-4", 2e-4),
        ("1e5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1.5e+3", -1500.0),
        ("1_000", 1000),
        ("007", 7),
        ("0x10", 16),
        ("0o17", 15),
        (".inf", float("inf")),
        ("yes", True),
        ("Off", False),
        ("TRUE", True),
        ("no", False),
        ("y", "y"),
        ("tRuE", "tRuE"),
        ("~", None),
        ("", None),
        ("null", None),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1e", "1e"),
        ("1.2.3", "1.2.3"),
        ("'2e-4'", "2e-4"),
        ('"yes"', "yes"),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
        ("[a, 1, no]", ["a", 1, False]),
        ("{a: 1, 2: b}", {"a": 1, 2: "b"}),
        ("...", "..."),
    ],
)
def test_scalars(written: str, meant: object) -> None:
    assert values(f"key: {written}\n") == {"key": meant}


def test_block_text_is_text() -> None:
    assert values("key: |\n  5\n") == {"key": "5\n"}


def test_anchors_and_merges() -> None:
    text = "a: &x {p: 1, q: 2}\nb: *x\nc:\n  <<: *x\n  q: 3\nd:\n  <<: [*x, {r: 4}]\n"
    assert values(text) == {
        "a": {"p": 1, "q": 2},
        "b": {"p": 1, "q": 2},
        "c": {"p": 1, "q": 3},
        "d": {"p": 1, "q": 2, "r": 4},
    }


def test_duplicate_keys_are_all_reported_with_both_lines() -> None:
    _, problems = parse_yaml("a: 1\nb: 2\na: 3\nc: {x: 1, x: 2}\n", "c.yml")
    assert [(problem.key, problem.line) for problem in problems] == [("a", 3), ("x", 4)]
    assert "first on line 1, again on line 3" in problems[0].message


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("", "the config is empty", None),
        ("# only a comment\n", "the config is empty", None),
        ("---\n...\n", "the config is empty", None),
        ("- a\n- b\n", "the config is a list", None),
        ("just words\n", "the config is just the text", None),
        ("a: 1\n---\nb: 2\n", "a second document starts here", 2),
        ("a:\n\tb: 1\n", "a tab is used for indentation", 2),
        ("a: [1, 2\nb: 3\n", "not valid YAML", 2),
        ("a: !env HOME\n", "the tag '!env' is not known", 1),
        ("a: !!python/object:os.system x\n", "is not known", 1),
        ("a: *nowhere\n", "`*nowhere` has no `&nowhere`", 1),
        ("a: &x [*x]\n", "`*x` has no `&x`", 1),
        ("[a]: 1\n", "a key must be a word", 1),
        ("a:\n  <<: 5\n", "`<<` needs a mapping", 2),
        ("a: b: c\n", "not valid YAML", 1),
        ("a: @x\n", "not valid YAML", 1),
    ],
)
def test_what_is_no_config(text: str, message: str, line: int | None) -> None:
    problem = the_problem(text)
    assert message in problem.message
    assert (problem.file, problem.line) == ("c.yml", line)


def test_hints() -> None:
    assert "space is missing" in str(the_problem("a: 1\nlearning_rate:5\nb: 2\n"))
    assert "datasets:" in str(the_problem("- path: x\n  type: alpaca\n"))
    assert "two spaces" in str(the_problem("a:\n\t- b\n"))


def test_alias_bomb_is_refused() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    assert "once aliases are expanded" in the_problem(bomb).message


@pytest.mark.parametrize(
    "text", ["a: " + "[" * 100_000, "a: " + "{a: " * 50_000, "\n".join(" " * n + "a:" for n in range(500))]
)
def test_deep_nesting_is_refused(text: str) -> None:
    assert "levels deep" in the_problem(text).message


def test_large_text_is_refused() -> None:
    assert "larger than 1024 KiB" in the_problem("a: " + "x" * MAX_BYTES).message


def test_indented_ellipsis_is_left_out_with_a_word() -> None:
    root, problems = parse_yaml("a:\n  - b: 1\n    ...\n  - b: 2\n", "c.yml")
    assert to_value(root) == {"a": [{"b": 1}, {"b": 2}]}
    assert [(problem.severity, problem.line) for problem in problems] == [("warning", 3)]


def test_ellipsis_of_documentation_between_keys() -> None:
    root, problems = parse_yaml("a: 1\n\n...\n\nb: 2\n", "c.yml")
    assert to_value(root) == {"a": 1, "b": 2}
    assert [problem.line for problem in problems] == [3]


def test_ellipsis_in_text_stays() -> None:
    assert values("a: |\n  x\n  ...\n") == {"a": "x\n...\n"}


def test_byte_order_mark_and_windows_lines() -> None:
    assert values("a: 1\r\nb: x\r\n") == {"a": 1, "b": "x"}


@pytest.mark.parametrize(
    ("text", "value"), [("[q_proj,v_proj]", ["q_proj", "v_proj"]), ('{"a": 1}', {"a": 1}), ("", None), ("5", 5)]
)
def test_flag_values(text: str, value: object) -> None:
    assert to_value(parse_flag_value(text, "--x")) == value


def test_bad_flag_value_names_the_flag() -> None:
    with pytest.raises(ConfigError, match="--x: error: cannot read"):
        parse_flag_value("[a", "--x")
