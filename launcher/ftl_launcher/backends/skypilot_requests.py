"""What SkyPilot's API server is still working on: a launch that it took and that is in no queue of its yet.

The server goes on with a request when its client is killed, so a launch is looked for here before it is called lost,
and before it is sent again.
"""

from __future__ import annotations

import json
from typing import Any

_LAUNCHES = {"jobs.launch": "name", "launch": "cluster_name"}
"""Name of a request -> the field of its body that we named."""


def launch_on_its_way(sky: Any, name: str) -> str | None:
    """Id of the unfinished request that launches the job or cluster of that name; None where there is none."""
    for request in sky.api_status():
        field = _LAUNCHES.get(request.name.removeprefix("sky."))
        if field and _body(request).get(field) == name:
            return str(request.request_id)
    return None


def _body(request: Any) -> dict[str, Any]:
    """Empty where the server keeps it to itself, as it does with other people's."""
    try:
        body = json.loads(request.request_body)
    except (TypeError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}
