"""Printing a request, for `ftl render` and `ftl launch --dryrun`."""

from __future__ import annotations

import json

import click

from ftl_launcher.backends.protocol import Request
from ftl_launcher.console import print_json, say


def print_request(request: Request, *, as_json: bool) -> None:
    """The text that would be submitted, byte for byte; with ``--json`` the plan beside it."""
    if as_json:
        plan = json.loads(request.plan.to_json())
        print_json({"backend": request.backend, "handle": request.handle, "request": request.payload, "plan": plan})
        return
    click.echo(request.text, nl=not request.text.endswith("\n"))
    if request.plan.secret_names:
        say(f"# values are added at submission for: {', '.join(request.plan.secret_names)}")
