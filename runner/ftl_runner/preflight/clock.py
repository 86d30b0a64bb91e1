"""Clocks: of the nodes against the head's, and of the store against a node's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftl_config.preflight import Finding
    from ftl_runner.preflight.node import Node

CHECK = "clock"

NOTABLE_S = 5.0
"""Order of events and ages of checkpoints become wrong; a busy node may answer a second or two late."""
FATAL_S = 600.0
"""S3 refuses requests that are 15 minutes off, certificates and tickets sooner."""


def against(node: Node, check: str, skew_s: float, other: str) -> Finding:
    """A finding on how far this node's clock is ahead of another (negative: behind it)."""
    amount = abs(skew_s)
    if amount <= NOTABLE_S:
        return node.passed(check, f"within {NOTABLE_S:g} s")
    found = f"{amount:.0f} s {'ahead of' if skew_s > 0 else 'behind'} {other}"
    tell = node.failed if amount > FATAL_S else node.warning
    return tell(check, found, wanted=f"within {NOTABLE_S:g} s", fix="set the clock: chronyc makestep, or timedatectl")
