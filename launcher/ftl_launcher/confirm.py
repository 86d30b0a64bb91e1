"""Asking before anything costs money."""

from __future__ import annotations

import sys

import click

from ftl_config.errors import FtlError
from ftl_launcher.backends.protocol import Offer
from ftl_launcher.limits import limit_text
from ftl_launcher.plan import RunPlan


def confirm_cost(plan: RunPlan, offer: Offer, *, yes: bool) -> None:
    """Say what a run costs an hour and ask; returns only on a yes.

    Raises:
        FtlError: there is no terminal to ask at.
        click.Abort: the answer was no.
    """
    nodes = f" for {plan.num_nodes} nodes" if plan.num_nodes > 1 else ""
    limit = limit_text(plan)
    text = f"{offer.where}: {offer.price}{nodes}" + (f", {limit}" if limit else "")
    if yes:
        click.echo(text, err=True)
    elif sys.stdin.isatty():
        click.confirm(f"{text}. Launch {plan.name}?", abort=True, err=True)
    else:
        raise FtlError(
            f"this costs money ({text}), and there is no terminal to ask at", hint="--yes launches it", exit_code=2
        )
