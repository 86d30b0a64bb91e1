"""Any config that loads is written out as YAML that loads to the same."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftl_config import load_text
from ftl_config.axolotl import table
from ftl_config.canonical import canonical_values, to_yaml
from ftl_config.errors import Problem
from ftl_config.keys import LAUNCH, Key, keys, section_types
from ftl_config.legacy import rewrite
from ftl_config.nodes import Mapping, Origin, from_value
from ftl_config.report import Report
from ftl_config.schema.types import Section
from ftl_config.sections import build_config

TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\x85\u2028\u2029\ufeff"), max_size=12
)
"""What can stand in a YAML file; words that look like numbers and booleans are mixed in below."""
TRICKY = st.sampled_from(
    ["no", "yes", "2e-4", "1_0", "0o7", ".inf", "1:30", "null", "~", "a: b", "#x", "<<", "- a", "=", "!x"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | TEXTS | TRICKY,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=6,
)


def values_for(annotation: Any, metadata: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """Values of a field, from its annotation."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values_for(args[0], (*metadata, *args[1:]))
    if origin in (Union, types.UnionType):
        return st.one_of([values_for(arg, metadata) for arg in args if arg is not type(None)])
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        items = [arg for arg in args if arg is not Ellipsis]
        fixed = len(args) > 1 and args[1] is not Ellipsis
        return st.lists(values_for(items[0]), min_size=2 if fixed else 1, max_size=2 if fixed else 3)
    if origin is dict:
        key = (
            st.integers(0, 99) if int in (args[0], *get_args(args[0])) else st.from_regex(r"[a-z]{1,6}", fullmatch=True)
        )
        return st.dictionaries(key, values_for(args[1]), min_size=1, max_size=2)
    if annotation is Any:
        return JSON
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return sections(annotation)
    return scalars_for(annotation, metadata)


def scalars_for(kind: Any, metadata: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if kind is bool:
        return st.booleans()
    if kind is str:
        return (TEXTS | TRICKY).filter(lambda text: bool(text.strip()))
    low, high = 0.0, 1e6
    for bound in metadata:
        low = float(getattr(bound, "ge", getattr(bound, "gt", low))) if isinstance(bound, Ge | Gt) else low
        high = float(getattr(bound, "le", getattr(bound, "lt", high))) if isinstance(bound, Le | Lt) else high
    if kind is int:
        return st.integers(int(low), int(high))
    assert kind is float, kind
    opened = any(isinstance(bound, Gt | Lt) for bound in metadata)
    return st.floats(low, high, exclude_min=opened, exclude_max=opened, allow_nan=False)


def sections(model: type[Section]) -> st.SearchStrategy[dict[str, Any]]:
    required = {name: field for name, field in model.model_fields.items() if field.is_required()}
    optional = {name: field for name, field in model.model_fields.items() if name not in required}
    return st.fixed_dictionaries(
        {name: values_for(field.annotation, tuple(field.metadata)) for name, field in required.items()},
        optional={name: values_for(field.annotation, tuple(field.metadata)) for name, field in optional.items()},
    ).map(lambda values: dict(list(values.items())[:4]) if not required else values)


def value_for(key: Key) -> st.SearchStrategy[Any]:
    if key.name == LAUNCH:
        return sections(section_types()[LAUNCH])
    return values_for(key.annotation, tuple(key.field.metadata))


IMPLEMENTED = [key for name, key in keys().items() if table()[name].name in ("implemented", "unsupported")]
CONFIGS = st.lists(st.sampled_from(IMPLEMENTED), unique_by=lambda key: key.name, max_size=8).flatmap(
    lambda chosen: st.fixed_dictionaries({key.name: value_for(key) for key in chosen})
)


def typed(values: dict[str, Any]) -> tuple[Any, list[Problem]]:
    """The config of values, without the rules: what is random seldom makes sense."""
    root = from_value(values, Origin("file", "x", 1))
    assert isinstance(root, Mapping)
    report = Report(root)
    rewrite(root, report)
    config = build_config(root, report)
    return config, [problem for problem in report.problems if problem.severity == "error"]


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(CONFIGS)
def test_what_fits_the_types_survives_yaml(values: dict[str, Any]) -> None:
    config, problems = typed(values)
    assert not problems
    from ftl_config.parse import parse_yaml

    root, duplicates = parse_yaml(to_yaml(canonical_values(config)), "again.yml")
    report = Report(root, duplicates)
    rewrite(root, report)
    assert build_config(root, report) == config
    assert not [problem for problem in report.problems if problem.severity == "error"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.permutations(list(range(9))), st.booleans())
def test_digest_knows_no_order(order: list[int], launched: bool) -> None:
    lines = [
        "base_model: a/b",
        "learning_rate: 1e-4",
        "micro_batch_size: 2",
        "gradient_accumulation_steps: 4",
        "datasets: [{path: x, type: alpaca}]",
        "adapter: lora",
        "lora_r: 8",
        "bf16:",
        "seed: 3",
    ]
    expected = load_text("\n".join(lines))
    text = "\n".join([f"{lines[index]}  # {index}" for index in order] + ["launch: {nodes: 3}"] * launched)
    assert load_text(text).digest == expected.digest
