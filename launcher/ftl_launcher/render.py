"""Plan -> text, from the files under templates/. Pure: the same plan always gives the same bytes.

Every value goes through a quoting filter (``json``, ``sh``); JSON scalars are YAML scalars too, so one filter serves
both formats. A name that a template does not get is an error, never an empty string.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ftl_config.assets import asset_path
from ftl_launcher.plan import CONFIG, PYTHON, RunPlan

if TYPE_CHECKING:
    from jinja2 import Environment

STOP_GRACE_S = 180
"""How long a cancelled run may take to save a checkpoint before it is killed."""

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
    entrypoint = _render(
        "ray/entrypoint.sh.j2",
        command=_argv(plan, python, config_path or '"$config"', quote_config=not in_job),
        config_yaml=plan.config_yaml if in_job else None,
        delimiter=f"FTL_CONFIG_{plan.config_digest[:8]}",
        workdir=None if in_job else plan.workdir,
        extra_packages=(),
    )
    secrets = {name: SECRET_MARK % name for name in plan.secret_names} if in_job else {}
    return _render(
        "ray/job.json.j2",
        plan=plan,
        entrypoint=entrypoint.strip(),
        env=dict(sorted({**plan.env, **secrets, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_GRACE_S)}.items())),
        working_dir=plan.workdir if in_job else None,
    )


def render_container_script(plan: RunPlan) -> str:
    """What a container on this machine runs: the config carried along, then the runner in bash's place."""
    return _render(
        "ray/entrypoint.sh.j2",
        command=_argv(plan, "python3", '"$config"', quote_config=False),
        config_yaml=plan.config_yaml,
        delimiter=f"FTL_CONFIG_{plan.config_digest[:8]}",
        workdir=None,
        extra_packages=plan.extra_packages,
    ).strip()


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
        delimiter=f"FTL_CONFIG_{plan.config_digest[:8]}",
        command=_argv(plan, "python3", '"$FTL_RUN_DIR/config.yml"', quote_config=False),
    )


def fill_secrets(payload: Any, secrets: Mapping[str, str]) -> Any:
    """A copy of a parsed Ray job with the marks of `render_ray_job` replaced by values."""
    marks = {SECRET_MARK % name: value for name, value in secrets.items()}
    if isinstance(payload, Mapping):
        return {key: fill_secrets(value, secrets) for key, value in payload.items()}
    if isinstance(payload, list):
        return [fill_secrets(item, secrets) for item in payload]
    return marks.get(payload, payload) if isinstance(payload, str) else payload


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
