"""Showing a run while it goes on: a live region on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol, TextIO

from ftl_config.preflight import event_findings, summary_line, table
from ftl_config.protocol import Event, EventType
from ftl_launcher import console as consoles
from ftl_launcher import formats
from ftl_launcher.progress import Progress

if TYPE_CHECKING:
    from rich.console import RenderableType


class Display(Protocol):
    """Told everything in order; `close` is called exactly once, also after an error."""

    def text(self, line: str) -> None: ...

    def event(self, event: Event, progress: Progress) -> None: ...

    def tick(self) -> None: ...

    def note(self, line: str) -> None: ...

    def close(self) -> None: ...


def make_display(title: str) -> Display:
    """What suits stdout."""
    return LiveDisplay(title) if consoles.is_terminal() else PlainDisplay()


class PlainDisplay:
    """One line an event, free text as it came. For pipes, files and CI."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def text(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    def event(self, event: Event, progress: Progress) -> None:
        line = formats.event_line(event)
        if line is not None and event.type is not EventType.ERROR:
            self.text(line)

    def tick(self) -> None:
        pass

    def note(self, line: str) -> None:
        self.text(line)

    def close(self) -> None:
        self._stream.flush()


class SilentDisplay:
    """For ``--json``: nothing but the result is printed."""

    def text(self, line: str) -> None:
        pass

    def event(self, event: Event, progress: Progress) -> None:
        pass

    def tick(self) -> None:
        pass

    def note(self, line: str) -> None:
        consoles.say(line)

    def close(self) -> None:
        pass


class LiveDisplay:
    """A progress region that stays at the bottom; log lines scroll by above it."""

    def __init__(self, title: str) -> None:
        from rich.live import Live

        self._title = title
        self._progress = Progress()
        self._console = consoles.make_console()
        self._live = Live(self._render(), console=self._console, refresh_per_second=4, transient=True)
        self._live.start()

    def text(self, line: str) -> None:
        from rich.text import Text

        # Bars drawn with carriage returns: only their last state is worth a line.
        self._console.print(Text(line.rsplit("\r", 1)[-1], style="dim"))

    def event(self, event: Event, progress: Progress) -> None:
        self._progress = progress
        if event.type in _PRINTED:
            line = formats.event_line(event)
            self._console.print(line, style=_PRINTED[event.type], markup=False)
        if event.type is EventType.PREFLIGHT:
            self._preflight(event)
        self._live.update(self._render())

    def _preflight(self, event: Event) -> None:
        self._console.print(summary_line(event.fields), style="green", markup=False)
        if findings := event_findings(event.fields):
            self._console.print(table(findings))

    def tick(self) -> None:
        pass  # Live refreshes by itself

    def note(self, line: str) -> None:
        self._console.print(line, style="yellow", markup=False)

    def close(self) -> None:
        self._live.stop()

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        progress = self._progress
        if progress.step is None or not progress.total_steps:
            phase = progress.phase or "starting"
            return Spinner(
                "dots", Text.assemble((self._title, "bold"), f"  {phase}  ", (progress.message or "", "dim"))
            )
        return Group(self._bar(progress), self._figures(progress))

    def _bar(self, progress: Progress) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        bar = ProgressBar(total=progress.total_steps or 1, completed=progress.step or 0)
        eta = f"eta {formats.duration(progress.eta_s)}" if progress.phase == "train" else progress.phase or ""
        # Text, not markup: a line printed above without markup turns it off for this region, too.
        grid.add_row(Text(self._title, style="bold"), bar, Text(f"{progress.step}/{progress.total_steps}  {eta}"))
        return grid

    def _figures(self, progress: Progress) -> RenderableType:
        from rich.text import Text

        parts = [f"loss {formats.number(progress.loss)} {formats.sparkline(progress.losses)}"]
        if progress.eval_loss is not None:
            parts.append(f"eval {formats.number(progress.eval_loss)}")
        parts.append(f"lr {formats.number(progress.learning_rate, 3)}")
        parts.append(f"{formats.count(progress.tokens_per_s)} tok/s")
        if progress.checkpoint_step is not None:
            parts.append(f"checkpoint {progress.checkpoint_step}")
        return Text("  " + "   ".join(parts), style="cyan", no_wrap=True, overflow="ellipsis")


_PRINTED = {
    EventType.TRAIN_START: "green",
    EventType.EVAL: "cyan",
    EventType.CHECKPOINT: "green",
    EventType.RESUMED: "green",
    EventType.WARNING: "yellow",
}
"""Events that leave a line above the live region, and its style. Errors come at the very end, from the caller."""
