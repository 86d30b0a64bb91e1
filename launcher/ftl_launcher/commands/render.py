"""``ftl render``: what would be submitted, without submitting."""

from __future__ import annotations

import click

from ftl_launcher import configs
from ftl_launcher.commands.launch import plan_for
from ftl_launcher.commands.options import (
    ConfigCommand,
    config_arguments,
    flag_overrides,
    json_option,
    launch_options,
    parse_env,
)
from ftl_launcher.commands.rendering import print_request
from ftl_launcher.submission import make_request


@click.command(cls=ConfigCommand)
@config_arguments
@launch_options
@json_option
@click.pass_context
def render(
    ctx: click.Context,
    source: str,
    overrides: tuple[str, ...],
    allow_unknown: bool,
    name: str | None,
    env: tuple[str, ...],
    secrets: tuple[str, ...],
    as_json: bool,
) -> int:
    """Print exactly what `ftl launch` would submit for CONFIG; secrets appear as names."""
    loaded = configs.load(source, [*overrides, *flag_overrides(ctx)], allow_unknown=allow_unknown)
    plan = plan_for(loaded, source, name, env=parse_env(env), secret_names=secrets)
    _, request = make_request(plan)
    print_request(request, as_json=as_json)
    return 0
