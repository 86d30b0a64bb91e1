"""How long a run may go on: hours, and dollars at the price that was offered. Pure.

The run keeps to it itself (it saves and stops), so the limit holds with the laptop closed.
"""

from __future__ import annotations

from dataclasses import replace

from ftl_config.errors import FtlError
from ftl_config.protocol import Env
from ftl_launcher.backends.protocol import Offer
from ftl_launcher.plan import RunPlan


def with_limit(plan: RunPlan, offer: Offer | None = None) -> RunPlan:
    """The plan with its limit in hours where the runner reads it.

    Args:
        plan: the plan.
        offer: what will be rented, once that is known; ``max_cost`` counts from then on.

    Raises:
        FtlError: a limit in dollars on machines without a known price.
    """
    hours = [hours for hours in (plan.max_hours, _affordable_hours(plan, offer)) if hours is not None]
    rest = {name: value for name, value in plan.env.items() if name != Env.MAX_HOURS}
    return replace(plan, env={**rest, str(Env.MAX_HOURS): f"{min(hours):.6g}"} if hours else rest)


def _affordable_hours(plan: RunPlan, offer: Offer | None) -> float | None:
    if plan.max_cost is None or offer is None:
        return None
    if not offer.hourly_cost:
        raise FtlError(
            f"max_cost: no price is known for {offer.where}, so ${plan.max_cost:g} cannot be kept to",
            hint="limit the time instead: --max-hours",
            exit_code=2,
        )
    return plan.max_cost / offer.hourly_cost


def limit_text(plan: RunPlan) -> str | None:
    """``at most 3.2 hours``; None where there is no limit."""
    hours = plan.env.get(Env.MAX_HOURS)
    return f"at most {float(hours):.3g} hours" if hours else None
