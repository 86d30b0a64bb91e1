"""``ftl render``: what would be submitted, without submitting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ftl_launcher.commands.options import ConfigCommand, json_option
from ftl_launcher.commands.planning import planned
from ftl_launcher.commands.rendering import print_request
from ftl_launcher.plan import RunPlan
from ftl_launcher.submission import make_request

if TYPE_CHECKING:
    from ftl_config import LoadedConfig


@click.command(cls=ConfigCommand)
@planned
@json_option
def render(loaded: LoadedConfig, plan: RunPlan, as_json: bool) -> int:
    """Print exactly what `ftl launch` would submit for CONFIG; secrets appear as names."""
    _, request = make_request(plan)
    print_request(request, as_json=as_json)
    return 0
