"""What a run has cost: the price it was offered at times the time it had its machines. No bill is read."""

from __future__ import annotations

from ftl_launcher.records import RunRecord

_HOUR_S = 3600.0


def hours_so_far(record: RunRecord, now: float) -> float:
    """Hours that this launch has had its machines; 0 before they were there."""
    if record.started_at is None:
        return 0.0
    end = record.ended_at if record.state.is_terminal and record.ended_at is not None else now
    return max(0.0, end - record.started_at) / _HOUR_S


def cost_so_far(record: RunRecord, now: float) -> float | None:
    """Dollars of all launches; None where nothing was ever rented, or no price was known."""
    if record.hourly_cost is None:
        return record.spent or None
    return record.spent + record.hourly_cost * hours_so_far(record, now)
