"""What a run would cost, before anything is rented: SkyPilot's optimizer, asked for its choice and its price."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Mapping
from typing import Any

from ftl_config.errors import FtlError
from ftl_launcher.backends.protocol import Offer, Request

_CHOSEN = re.compile(r"^ *(?P<where>\S.*?) {2,}.*?(?P<cost>\d+\.\d+) +(?:\x1b\[\d+m)? *✔", re.MULTILINE)
"""The chosen line of its table: infra, ..., dollars an hour for all nodes, a tick. The server gives it as text only."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def ask_for_offer(sky: Any, request: Request, secrets: Mapping[str, str]) -> Offer:
    """SkyPilot's table of candidates with their prices is shown as it comes; this is the one it chose.

    Raises:
        FtlError: nothing fits, no cloud is enabled, or its API server cannot be asked.
    """
    values = {**secrets, "RAY_AUTH_TOKEN": "made at submission"}
    table = io.StringIO()
    try:
        with sky.Dag() as dag:  # a task that is made in here joins it
            sky.Task.from_yaml_config(dict(request.payload), secrets_overrides=list(values.items()))
        sky.stream_and_get(sky.optimize(dag), output_stream=table)
    except Exception as error:  # SkyPilot raises dozens of classes
        raise FtlError(
            f"SkyPilot has no offer for this: {in_words(error)}",
            hint="`sky check` says which clouds it can use; other accelerators, regions or clouds may be free",
        ) from error
    sys.stderr.write(table.getvalue())
    return chosen_offer(table.getvalue())


def in_words(error: Exception) -> str:
    """SkyPilot's message, without its colours."""
    return _COLOUR.sub("", str(error)).strip()


def chosen_offer(table: str) -> Offer:
    """The line with the tick; without one, no price is known."""
    found = _CHOSEN.search(table)
    return Offer(found["where"], float(found["cost"])) if found else Offer("SkyPilot's choice", None)
