"""The checks on every node of a Ray cluster: one task a node, before the worker group starts."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ftl_config.preflight import CLUSTER, Finding, Outcome
from ftl_config.protocol import Env, ExitCode
from ftl_runner.preflight import clock
from ftl_runner.preflight.node import Expectations, Node, expectations_of, look_at
from ftl_runner.preflight.registry import run_checks
from ftl_runner.preflight.report import tell
from ftl_runner.preflight.store import remove_head_probe, write_head_probe

if TYPE_CHECKING:
    from ftl_config.protocol import Event
    from ftl_runner.context import TrainJob

ANSWER_TIMEOUT_S = 90.0
"""A node that has to load its libraries from a slow disk answers late; one without an answer will not train either."""

_PACKAGES = ("ftl-tune", "torch", "transformers")


@dataclass(frozen=True)
class Workers:
    """The worker group that is going to be started."""

    num_workers: int
    resources: Mapping[str, float]
    """Of one worker, as Ray counts them."""


@dataclass(frozen=True)
class Answer:
    """What a node sends back; ``time`` is its clock, in seconds since the epoch, when it had done all checks."""

    findings: Sequence[Finding]
    versions: Mapping[str, str]
    time: float


def check_ray_nodes(job: TrainJob, workers: Workers, send: Callable[[Event], None]) -> None:
    """Check all nodes at once and tell what was found.

    Raises:
        FtlError: a node is not fit, or the cluster is too small for the workers.
    """
    import ray

    started = time.monotonic()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    wanted = expectations_of(job, num_nodes=_num_nodes(len(nodes)), num_workers=workers.num_workers)
    probe = write_head_probe(job.store_uri) if len(nodes) > 1 else None
    try:
        findings = _ask(nodes, replace(wanted, head_probe=probe))
    finally:
        if probe is not None:
            remove_head_probe(job.store_uri, probe)
    if len(nodes) > wanted.num_nodes:
        findings = judged_together(findings, wanted.num_nodes)
    room = room_for(workers, ray.cluster_resources())
    findings += map(milder, room) if _may_grow() else room
    tell(findings, time.monotonic() - started, send)


def look_at_node(name: str, expectations: Expectations) -> Answer:
    """What runs on each node."""
    findings = run_checks(look_at(name, expectations))
    return Answer(findings, _versions(), time.time())


def room_for(workers: Workers, total: Mapping[str, float]) -> list[Finding]:
    """Ray waits without end for what a cluster does not have; this says so instead."""
    short = {
        name: (workers.num_workers * amount, total.get(name, 0.0))
        for name, amount in workers.resources.items()
        if workers.num_workers * amount > total.get(name, 0.0)
    }
    return [
        Finding(
            CLUSTER,
            "workers",
            Outcome.FAILED,
            f"{has:g} {name} in all",
            f"{needs:g} {name}: {workers.num_workers} workers with {workers.resources[name]:g} each",
            "lower ray_num_workers (launch.workers_per_node), or ask for more nodes or accelerators",
            ExitCode.BAD_CONFIG,
        )
        for name, (needs, has) in short.items()
    ]


def judged_together(findings: list[Finding], num_nodes: int) -> list[Finding]:
    """On a cluster that is larger than the run needs, an unfit node is a warning while enough are fit."""
    unfit = {finding.node for finding in findings if finding.outcome is Outcome.FAILED}
    fit = {finding.node for finding in findings} - unfit
    return [milder(finding) for finding in findings] if len(fit) >= num_nodes else findings


def milder(finding: Finding) -> Finding:
    """A failure as a warning."""
    return replace(finding, outcome=Outcome.WARNING) if finding.outcome is Outcome.FAILED else finding


def _may_grow() -> bool:
    """Whether an autoscaler made this node (KubeRay, ray up), which may make more."""
    return bool(os.environ.get("RAY_NODE_TYPE_NAME"))


def _num_nodes(in_cluster: int) -> int:
    return min(int(os.environ.get(Env.NUM_NODES) or in_cluster), in_cluster)


def _ask(nodes: Sequence[Mapping[str, Any]], wanted: Expectations) -> list[Finding]:
    """One task a node, wherever its CPUs are; answers are taken as they come, to read the clocks by them."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    names = _names(nodes)
    task = ray.remote(num_cpus=0, max_retries=1)(look_at_node)
    pending = {}
    for node, name in zip(nodes, names, strict=True):
        here = task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        pending[here.remote(name, replace(wanted, gpus_offered=int(node["Resources"].get("GPU", 0))))] = name
    findings: list[Finding] = []
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while pending and (left_s := deadline - time.monotonic()) > 0:
        done, _ = ray.wait(list(pending), num_returns=1, timeout=left_s)
        now = time.time()
        for reference in done:
            findings += _taken(reference, Node(pending.pop(reference), wanted), now)
    for name in pending.values():
        silent = Node(name, wanted)
        fix = "see whether Ray's log on the node says why (/tmp/ray/session_latest/logs)"
        findings.append(silent.failed("answer", f"none within {ANSWER_TIMEOUT_S:g} s", wanted="an answer", fix=fix))
    order = {name: position for position, name in enumerate(names)}
    return sorted(findings, key=lambda finding: order[finding.node])


def _taken(reference: Any, node: Node, now: float) -> list[Finding]:
    import ray

    try:
        answer: Answer = ray.get(reference)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        return [node.failed("answer", reason, wanted="an answer", fix="is ftl-tune[runner] installed on the node?")]
    skew = clock.against(node, clock.CHECK, answer.time - now, "the head")
    return [*answer.findings, skew, *same_versions(node, answer.versions, _versions())]


def same_versions(node: Node, theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[Finding]:
    """A finding where the node has other versions of what trains than the head; nothing where they agree."""
    other = [f"{name} {theirs.get(name)}" for name in ours if theirs.get(name) != ours[name]]
    if not other:
        return []
    wanted = ", ".join(f"{name} {ours[name]}" for name in ours if theirs.get(name) != ours[name])
    return [node.warning("versions", ", ".join(other), wanted=wanted, fix="install the same on every node")]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def _names(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Host names; with the address where nodes share one, and Ray's id where they share that too."""
    hosts = [str(node["NodeManagerHostname"]).split(".")[0] for node in nodes]
    with_address = [f"{host} ({node['NodeManagerAddress']})" for host, node in zip(hosts, nodes, strict=True)]
    with_id = [f"{host} ({node['NodeID'][:8]})" for host, node in zip(hosts, nodes, strict=True)]
    return [
        host if hosts.count(host) == 1 else address if with_address.count(address) == 1 else node_id
        for host, address, node_id in zip(hosts, with_address, with_id, strict=True)
    ]
