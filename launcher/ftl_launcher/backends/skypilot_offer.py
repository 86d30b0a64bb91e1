"""What a run would cost, before anything is rented: SkyPilot's optimizer, asked for its choice and its price."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ftl_config.errors import FtlError
from ftl_launcher.backends.protocol import Offer, Request


def ask_for_offer(sky: Any, request: Request, secrets: Mapping[str, str]) -> Offer:
    """SkyPilot prints its table of candidates with their prices; this is the one it chose.

    Raises:
        FtlError: nothing fits, no cloud is enabled, or its API server cannot be asked.
    """
    values = {**secrets, "RAY_AUTH_TOKEN": "made at submission"}
    try:
        with sky.Dag() as dag:
            dag.add(sky.Task.from_yaml_config(dict(request.payload), secrets_overrides=list(values.items())))
        best = sky.stream_and_get(sky.optimize(dag)).tasks[0].best_resources
    except Exception as error:  # SkyPilot raises dozens of classes
        raise FtlError(
            f"SkyPilot has no offer for this: {str(error).strip()}",
            hint="`sky check` says which clouds it can use; other accelerators, regions or clouds may be free",
        ) from error
    cost = None
    with suppress(Exception):  # no price is listed, or its catalog cannot be read here
        cost = float(best.get_cost(3600)) * request.plan.num_nodes
    return Offer(str(best), cost)
