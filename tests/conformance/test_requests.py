"""What holds for the request of every backend there is, before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
import yaml

from ftl_launcher.backends.registry import BACKENDS, load_backend
from ftl_launcher.plan import HostFacts, RunPlan
from tests.conformance.runs import SECRET, SECRET_NAME
from tests.unit.launcher.plans import plan_of

WHERE: Mapping[str, tuple[str, ...]] = {
    "local": (),
    "dstack": ("--launch.backend=dstack", "--launch.image=me/ftl:1", "--launch.accelerators=A10G:1"),
    "kuberay": ("--launch.backend=kuberay", "--launch.accelerators=A10G:1"),
    "docker": ("--launch.cloud=docker",),
    "ray": ("--launch.ray-address=http://head:8265",),
    "skypilot": ("--launch.cloud=aws", "--launch.accelerators=A10G:1"),
}
"""Flags that lead to a backend."""

PARSERS = {".json": json.loads, ".yaml": yaml.safe_load}


@pytest.fixture(params=list(BACKENDS))
def plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RunPlan:
    monkeypatch.setenv(SECRET_NAME, SECRET)
    flags = WHERE[request.param]  # a new backend says here how one gets to it
    host = HostFacts(workdir="/home/me/project", environment_names=frozenset({SECRET_NAME}))
    found = plan_of(*flags, f"--launch.secrets=[{SECRET_NAME}]", "--checkpoint=s3://bucket/x", host=host)
    assert found.backend == request.param
    return found


def test_a_request_is_pure(plan: RunPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = load_backend(plan.backend)
    first = backend.request(plan)
    monkeypatch.setenv(SECRET_NAME, "another")
    assert backend.request(plan) == first
    assert backend.request(RunPlan.from_json(plan.to_json())) == first, "also of a plan that was kept"


def test_the_text_is_the_payload(plan: RunPlan) -> None:
    request = load_backend(plan.backend).request(plan)
    parse = PARSERS.get("." + request.filename.rpartition(".")[2])
    if parse is not None:
        assert parse(request.text) == request.payload


def test_secrets_are_names(plan: RunPlan) -> None:
    request = load_backend(plan.backend).request(plan)
    assert SECRET not in request.text
    assert SECRET not in json.dumps(request.payload)
    assert SECRET_NAME in request.text or plan.backend == "local", "a run on this machine inherits them"


def test_a_launch_is_found_by_its_handle(plan: RunPlan) -> None:
    """Known before it is submitted, another for every run and every launch, and a URL."""
    backend = load_backend(plan.backend)
    others = (plan, replace(plan, name="run-2"), replace(plan, launch_number=2))
    handles = {backend.request(other).handle for other in others}
    assert len(handles) == 3
    assert all("://" in handle for handle in handles)


def test_nothing_is_refused_of_a_plan_that_fits(plan: RunPlan) -> None:
    assert load_backend(plan.backend).refusals(plan) == []


def test_what_does_not_fit_is_refused_in_sentences(plan: RunPlan) -> None:
    impossible = replace(
        plan,
        resources=replace(plan.resources, spot=True),
        image="x/y:1",
        num_nodes=99,
        checkpoint_uri="/tmp/x",
        placement=replace(plan.placement, partition="p", autostop_minutes=5, managed=False),
    )
    refusals = load_backend(plan.backend).refusals(impossible)
    assert refusals
    assert all(len(reason.split()) > 4 for reason in refusals)
