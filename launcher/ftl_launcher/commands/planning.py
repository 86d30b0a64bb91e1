"""CONFIG and the flags that say where it runs, as the plan that launch, render and check begin with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ftl_launcher import configs
from ftl_launcher.commands.options import config_arguments, flag_overrides, launch_options, parse_env
from ftl_launcher.host import look_at_host
from ftl_launcher.names import check_run_name, default_run_name
from ftl_launcher.plan import RunPlan, make_plan
from ftl_launcher.upload import excludes_of
from ftl_launcher.versions import ftl_version

if TYPE_CHECKING:
    from ftl_config import LoadedConfig


def planned(command: Callable[..., int]) -> Callable[..., int]:
    """Arguments and options of a planned run; the command is called with the config and its plan, then the rest."""

    def plan_first(
        ctx: click.Context,
        /,
        source: str,
        overrides: tuple[str, ...],
        allow_unknown: bool,
        name: str | None,
        env: tuple[str, ...],
        secrets: tuple[str, ...],
        **options: Any,
    ) -> int:
        loaded = configs.load(source, [*overrides, *flag_overrides(ctx)], allow_unknown=allow_unknown)
        return command(loaded, _plan(loaded, source, name, parse_env(env), secrets), **options)

    functools.update_wrapper(plan_first, command)  # its help text, and the options that stand below
    return config_arguments(launch_options(click.pass_context(plan_first)))


def _plan(
    loaded: LoadedConfig, source: str, name: str | None, env: dict[str, str], secret_names: tuple[str, ...]
) -> RunPlan:
    """The plan of a config and the flags that are no part of the config.

    Raises:
        FtlError: a bad name, or a launch section that contradicts itself.
    """
    wanted = name or loaded.config.launch.name
    plan = make_plan(
        loaded,
        check_run_name(wanted) if wanted else default_run_name(source),
        look_at_host(),
        ftl_version=ftl_version(),
    )
    names = tuple(dict.fromkeys((*plan.secret_names, *secret_names)))
    return replace(plan, env={**plan.env, **env}, secret_names=names, upload_excludes=excludes_of(plan))
