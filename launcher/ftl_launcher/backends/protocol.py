"""What a backend is: five verbs between a plan and a place that runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from ftl_launcher.plan import RunPlan
from ftl_launcher.states import RunState


@dataclass(frozen=True)
class Request:
    """What is sent to a backend, exactly: ``text`` is what `ftl render` prints, and ``payload`` is that text parsed.

    Secrets stand in it as names; their values are put in by `Backend.submit` and nowhere else.
    """

    backend: str
    name: str
    handle: str
    """Where the run will be found, as a URL; known before submission."""
    filename: str
    """``job.json`` or ``task.yaml``."""
    text: str
    payload: Mapping[str, Any]
    plan: RunPlan


@dataclass(frozen=True)
class Offer:
    """What would be rented first. ``hourly_cost`` is in dollars for all nodes; None where no price is known."""

    where: str
    hourly_cost: float | None

    @property
    def price(self) -> str:
        """In words."""
        return f"${self.hourly_cost:.2f} an hour" if self.hourly_cost is not None else "price not known"


@dataclass(frozen=True)
class BackendState:
    """What a backend says about a run. ``exit_code`` is the driver's, where the backend knows it."""

    state: RunState
    exit_code: int | None = None
    message: str | None = None
    started_at: float | None = None
    ended_at: float | None = None


@runtime_checkable
class Backend(Protocol):
    """Implemented by each module of this folder, which offers it as ``BACKEND``."""

    name: str

    state_needs_import: bool
    """Asking for a state imports a heavy library, so lists of runs show what was last known."""

    def refusals(self, plan: RunPlan) -> list[str]:
        """Why this backend cannot do what the plan asks, one sentence each with what to do instead. Empty: it can."""
        ...

    def request(self, plan: RunPlan) -> Request:
        """Pure: the plan in the backend's words."""
        ...

    def offer(self, request: Request, secrets: Mapping[str, str]) -> Offer | None:
        """What the request would rent; None where nothing is rented.

        Raises:
            FtlError: nothing fits, or nobody can be asked now.
        """
        ...

    def submit(self, request: Request, secrets: Mapping[str, str]) -> None:
        """Hand the request over and return once the backend has it.

        Raises:
            FtlError: unreachable, refused, or not installed (the hint names the extra).
        """
        ...

    def state(self, handle: str) -> BackendState:
        """Ask once, without waiting. LOST where the backend answers that it knows no such run.

        Raises:
            FtlError: the backend cannot be asked now.
        """
        ...

    def logs(self, handle: str, *, follow: bool) -> Iterator[str | None]:
        """Lines of the run's output from the start, without line ends.

        With ``follow`` it ends when the run has ended and everything is out, reconnects by itself without repeating
        lines, and yields None at least twice a second while there is nothing new (so that the caller can look up).
        """
        ...

    def cancel(self, handle: str) -> None:
        """Ask the run to save and stop; returns at once. A run that has ended already is no error."""
        ...

    def down(self, handle: str) -> None:
        """End the run without waiting for it, and free what it holds. What is gone already is no error."""
        ...

    def shell(self, handle: str, rank: int) -> list[str]:
        """The argv of an interactive shell on a node of the run; a command may be added to it.

        Raises:
            FtlError: the backend offers none, or there is no such node.
        """
        ...

    def dashboard(self, handle: str) -> str | None:
        """Address of a page on the run, for a browser; None where there is none."""
        ...
