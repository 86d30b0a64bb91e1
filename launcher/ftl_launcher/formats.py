"""Numbers and events as people read them. Pure text, no colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ftl_config.preflight import event_text
from ftl_config.protocol import Event, EventType

_BLOCKS = "▁▂▃▄▅▆▇█"


def duration(seconds: float | None) -> str:
    """``42s``, ``3m07s``, ``2h05m``, ``3d04h``."""
    if seconds is None:
        return "-"
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def count(number: float | None) -> str:
    """``950``, ``1.2k``, ``135M``, ``7.2B``."""
    if number is None:
        return "-"
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.0f}"


def size(num_bytes: float | None) -> str:
    """Bytes in decimal units: ``18.3 MB``."""
    if num_bytes is None:
        return "-"
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= limit:
            return f"{num_bytes / limit:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def number(value: Any, digits: int = 4) -> str:
    """A metric; NaN and infinities arrive as text and stay text."""
    if value is None:
        return "-"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """The course of a value in block characters, newest at the right."""
    if not values:
        return ""
    step = max(len(values) / width, 1.0)
    picked = [values[int(i * step)] for i in range(min(width, len(values)))]
    low, high = min(picked), max(picked)
    span = (high - low) or 1.0
    return "".join(_BLOCKS[round((value - low) / span * (len(_BLOCKS) - 1))] for value in picked)


def event_line(event: Event) -> str | None:
    """One event as one line of a plain log; None where a line would say nothing."""
    make = _LINES.get(event.type)
    return make(event) if make else None


def _phase(event: Event) -> str:
    return f"[{event.get('phase')}] {event.get('message') or ''}".rstrip()


def _preflight(event: Event) -> str:
    return event_text(event.fields)


def _train_start(event: Event) -> str:
    parts = [f"[train] {event.get('total_steps')} steps"]
    if event.get("start_step"):
        parts.append(f"from step {event.get('start_step')}")
    if event.get("world_size"):
        parts.append(f"{event.get('world_size')} workers")
    if event.get("trainable_params"):
        trained, total = event["trainable_params"], event.get("total_params")
        parts.append(
            f"{count(trained)} of {count(total)} parameters trained" if total else f"{count(trained)} parameters"
        )
    if event.get("num_rows"):
        parts.append(f"{event.get('num_rows')} rows")
    return ", ".join(parts)


def _step(event: Event) -> str:
    step, total = event.get("step"), event.get("total_steps")
    parts = [
        f"step {step:>{len(str(total))}}/{total}" if total else f"step {step}",
        f"loss {number(event.get('loss'))}",
    ]
    for name, label in (("learning_rate", "lr"), ("grad_norm", "grad"), ("tokens_per_s", "tok/s")):
        if event.get(name) is not None:
            value = event[name]
            parts.append(f"{label} {count(value) if name == 'tokens_per_s' else number(value, 3)}")
    if event.get("eta_s") is not None:
        parts.append(f"eta {duration(event['eta_s'])}")
    return "  ".join(parts)


def _eval(event: Event) -> str:
    return f"eval  step {event.get('step')}  loss {number(event.get('eval_loss'))}"


def _checkpoint(event: Event) -> str:
    return (
        f"checkpoint  step {event.get('step')}  {event.get('uri')}  "
        f"({size(event.get('size_bytes'))} in {duration(event.get('duration_s'))})"
    )


def _resumed(event: Event) -> str:
    return f"resumed from step {event.get('step')} ({event.get('uri')}), attempt {event.get('attempt')}"


def _warning(event: Event) -> str:
    return f"warning: {event.get('message')}"


def _error(event: Event) -> str:
    hint = event.get("hint")
    return f"error: {event.get('message')}" + (f"\n  hint: {hint}" if hint else "")


def _end(event: Event) -> str:
    return f"[end] {event.get('status')} (exit code {event.get('exit_code')})"


_LINES = {
    EventType.PHASE: _phase,
    EventType.PREFLIGHT: _preflight,
    EventType.TRAIN_START: _train_start,
    EventType.STEP: _step,
    EventType.EVAL: _eval,
    EventType.CHECKPOINT: _checkpoint,
    EventType.RESUMED: _resumed,
    EventType.WARNING: _warning,
    EventType.ERROR: _error,
    EventType.END: _end,
}


def dollars(value: float | None) -> str:
    """``$12.34``, or ``-``."""
    return "-" if value is None else f"${value:,.2f}"
