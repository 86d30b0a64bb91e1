"""Plan -> text, from the files under templates/. Pure: the same plan always gives the same bytes.

Every value goes through a quoting filter (``json``, ``sh``); JSON scalars are YAML scalars too, so one filter serves
both formats. A name that a template does not get is an error, never an empty string.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ftl_config.assets import asset_path
from ftl_launcher.plan import CONFIG, PYTHON, RunPlan

if TYPE_CHECKING:
    from jinja2 import Environment

STOP_GRACE_S = 180
"""How long a cancelled run may take to save a checkpoint before it is killed."""

CLUSTER_LINGER_S = 60
"""How long the machines of an ended RayJob stay, for a last look."""

_NODES = {
    "skypilot": {"rank_variable": "SKYPILOT_NODE_RANK", "ips_variable": "SKYPILOT_NODE_IPS"},
    "dstack": {"rank_variable": "DSTACK_NODE_RANK", "ips_variable": "DSTACK_NODES_IPS"},
}
"""How each tells a node its place among the others: rank, and the addresses of all, one a line."""

SECRET_MARK = "${secret:%s}"  # noqa: S105 - a mark, not a secret
"""Stands in a rendered Ray job for the value of a secret, until submission."""


def render_ray_job(plan: RunPlan, *, python: str, config_path: str | None) -> str:
    """The body of a Ray Jobs API submission.

    Args:
        plan: the plan.
        python: interpreter on the cluster that has the runner.
        config_path: the config file on the cluster, or None to carry the config inside the entrypoint.
    """
    in_job = config_path is None
    entrypoint = _entrypoint(plan, python) if in_job else _entrypoint(plan, python, config_path, plan.workdir)
    secrets = {name: SECRET_MARK % name for name in plan.secret_names} if in_job else {}
    return _render(
        "ray/job.json.j2",
        plan=plan,
        entrypoint=entrypoint,
        env=dict(sorted({**plan.env, **secrets, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_GRACE_S)}.items())),
        working_dir=plan.workdir if in_job else None,
    )


def render_container_script(plan: RunPlan) -> str:
    """What a container on this machine runs: the config carried along, then the runner in bash's place."""
    return _entrypoint(plan, "python3", extra_packages=plan.extra_packages)


@dataclass(frozen=True)
class Pods:
    """What Kubernetes is asked for, for each node of a run."""

    image: str
    ray_version: str
    gpu: str | None
    """Name of the resource that its accelerators are, such as nvidia.com/gpu."""
    requests: Mapping[str, str]
    limits: Mapping[str, str]
    node_selector: Mapping[str, str]
    claims: Mapping[str, str]
    """Path in the pods -> name of a PersistentVolumeClaim."""


def render_ray_manifest(plan: RunPlan, pods: Pods) -> str:
    """A RayJob of KubeRay's: the entrypoint of the ray backend, on a cluster of its own."""
    env = {**plan.env, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_GRACE_S)}
    prepare = _render("shell/prepare.sh.j2", plan=plan).strip()
    return _render(
        "kuberay/rayjob.yaml.j2",
        **vars(pods),
        plan=plan,
        entrypoint=_unexpanded(_entrypoint(plan, "python3")),
        prepare=_unexpanded(prepare) if prepare else None,
        # A $(NAME) in a variable's value would be replaced by Kubernetes; $$ is a dollar.
        env={name: value.replace("$", "$$") for name, value in sorted(env.items())},
        grace_s=STOP_GRACE_S,
        linger_s=CLUSTER_LINGER_S,
        pre_stop=_render("kuberay/pre_stop.sh.j2").strip(),
    )


def render_skypilot_task(
    plan: RunPlan,
    *,
    candidates: list[Mapping[str, str]],
    env: Mapping[str, str],
    overrides: Mapping[str, Any],
    managed: bool,
) -> str:
    """A SkyPilot task file.

    Args:
        plan: the plan.
        candidates: ``infra``/``accelerators`` pairs in order of preference; at least one.
        env: variables of the task, the cloud's interconnect settings included.
        overrides: SkyPilot settings for this task alone (its ``config:`` key), such as options of ``docker run``.
        managed: a managed job (SkyPilot's controller recovers it) rather than a plain cluster.
    """
    return _render(
        "skypilot/task.yaml.j2",
        plan=plan,
        candidates=candidates,
        env=dict(sorted(env.items())),
        overrides=overrides,
        managed=managed,
        **_NODES["skypilot"],
        delimiter=f"FTL_CONFIG_{plan.config_digest[:8]}",
        command=_argv(plan, "python3", '"$FTL_RUN_DIR/config.yml"', quote_config=False),
    )


def render_dstack_task(
    plan: RunPlan, *, image: str, resources: Mapping[str, Any], options: Mapping[str, Any], folder: str
) -> str:
    """A dstack task file; its nodes run the script that SkyPilot's nodes run.

    Args:
        plan: the plan.
        image: container image of every node.
        resources: dstack's ``resources``.
        options: other keys of the task: what to rent, and until when.
        folder: where ``plan.workdir`` is put on the nodes.
    """
    script = _render(
        "shell/start_ray.sh.j2",
        plan=plan,
        **_NODES["dstack"],
        delimiter=f"FTL_CONFIG_{plan.config_digest[:8]}",
        command=_argv(plan, "python3", '"$FTL_RUN_DIR/config.yml"', quote_config=False),
    )
    return _render(
        "dstack/task.yaml.j2",
        plan=plan,
        image=image,
        env=dict(sorted(plan.env.items())),
        resources=resources,
        options=options,
        folder=folder,
        prepare=_render("shell/prepare.sh.j2", plan=plan).strip(),
        script=script,
        script_end=f"FTL_START_{plan.config_digest[:8]}",
    )


def fill_secrets(payload: Any, secrets: Mapping[str, str]) -> Any:
    """A copy of a parsed Ray job with the marks of `render_ray_job` replaced by values."""
    marks = {SECRET_MARK % name: value for name, value in secrets.items()}
    if isinstance(payload, Mapping):
        return {key: fill_secrets(value, secrets) for key, value in payload.items()}
    if isinstance(payload, list):
        return [fill_secrets(item, secrets) for item in payload]
    return marks.get(payload, payload) if isinstance(payload, str) else payload


def _entrypoint(
    plan: RunPlan,
    python: str,
    config_path: str | None = None,
    workdir: str | None = None,
    extra_packages: Sequence[str] = (),
) -> str:
    """Shell text that becomes the runner. Without the path of a config it carries the config along."""
    carried = config_path is None
    return _render(
        "ray/entrypoint.sh.j2",
        command=_argv(plan, python, config_path or '"$config"', quote_config=not carried),
        config_yaml=plan.config_yaml if carried else None,
        delimiter=f"FTL_CONFIG_{plan.config_digest[:8]}",
        workdir=workdir,
        extra_packages=extra_packages,
    ).strip()


def _unexpanded(shell: str) -> str:
    """Shell text as the arguments of a container: Kubernetes makes one dollar of two, and leaves $(commands) alone."""
    return shell.replace("$$", "$$$$")


def _argv(plan: RunPlan, python: str, config: str, *, quote_config: bool) -> str:
    """The command as shell text; a config that is a shell variable is left for the shell to expand."""
    known = {PYTHON: shlex.quote(python), CONFIG: shlex.quote(config) if quote_config else config}
    return " ".join(known.get(part, shlex.quote(part)) for part in plan.argv)


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(asset_path("templates")),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - shell, JSON and YAML are quoted by the filters below, not by HTML's rules
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["json"] = _json
    environment.filters["sh"] = lambda value: shlex.quote(str(value))
    return environment


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
