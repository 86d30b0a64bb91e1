"""Why a plan cannot be run, where several backends have the same reason."""

from __future__ import annotations

from collections.abc import Mapping

from ftl_launcher.plan import RunPlan


def unsuitable(asked: Mapping[str, bool], reasons: Mapping[str, str]) -> list[str]:
    """The reasons against what a plan asks for; both are named alike."""
    return [reason for key, reason in reasons.items() if asked[key]]


def vanishing_checkpoints(plan: RunPlan) -> list[str]:
    """Against checkpoints on a machine that is given back."""
    if "://" in plan.checkpoint_uri:
        return []
    return [
        f"checkpoints would stay on the rented machine ({plan.checkpoint_uri}) and vanish with it: "
        "set checkpoint: s3://bucket/prefix, or launch.checkpoint_bucket"
    ]
