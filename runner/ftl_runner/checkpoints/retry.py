"""Retries with exponential backoff for faults that pass by themselves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

PASSING_FAULTS: tuple[type[Exception], ...] = (ConnectionError, TimeoutError, InterruptedError)


def with_retries(
    call: Callable[[], Result],
    *,
    what: str,
    attempts: int = 5,
    first_delay_s: float = 0.5,
    retry_on: tuple[type[Exception], ...] = PASSING_FAULTS,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Call until it succeeds, waiting 0.5, 1, 2, 4 s between the attempts; the last fault is raised as it came."""
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except retry_on as error:
            if attempt == attempts:
                raise
            delay_s = first_delay_s * 2 ** (attempt - 1)
            logger.warning("%s failed (%s); attempt %d of %d in %.1f s", what, error, attempt + 1, attempts, delay_s)
            sleep(delay_s)
    raise AssertionError("unreachable")
