"""Running the runner as a child of this terminal (`ftl train`), with its output shown and Ctrl-C passed on once."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from ftl_config.errors import FtlError
from ftl_launcher.display import Display
from ftl_launcher.follow import Redact, show_line
from ftl_launcher.idle import with_idle
from ftl_launcher.progress import Progress


def run_child(argv: Sequence[str], env: Mapping[str, str], display: Display, redact: Redact) -> tuple[int, Progress]:
    """Run a command to its end; returns its exit code (128 + signal, as shells say it) and what it reported.

    The child leads a process group of its own, so the terminal's Ctrl-C reaches it only through us: the first asks it
    to save and stop, the third kills the whole group. SIGTERM is passed on.

    Raises:
        FtlError: the command cannot be started.
    """
    try:
        child = subprocess.Popen(
            list(argv),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    except OSError as error:
        raise FtlError(f"cannot start {argv[0]}: {error.strerror}") from error
    progress = Progress()
    notes: list[str] = []
    with _signals_passed_on(child, notes):
        for line in _lines(child):
            while notes:
                display.note(notes.pop(0))
            if line is None:
                display.tick()
            else:
                show_line(redact(line), progress, display)
        code = child.wait()
    return (128 - code if code < 0 else code), progress


@contextmanager
def _signals_passed_on(child: subprocess.Popen[bytes], notes: list[str]) -> Iterator[None]:
    """What there is to say goes to ``notes``: a handler that prints may interrupt a print, which Python refuses."""
    presses = 0

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal presses
        presses += 1
        if presses == 1:
            notes.append("stopping: a checkpoint is saved first (press Ctrl-C twice more to kill)")
            child.send_signal(signal.SIGINT)
        elif presses > 2:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    def on_terminate(signum: int, frame: FrameType | None) -> None:
        child.send_signal(signal.SIGTERM)

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, on_interrupt),
        signal.SIGTERM: signal.signal(signal.SIGTERM, on_terminate),
    }
    try:
        yield
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lines(child: subprocess.Popen[bytes]) -> Iterator[str | None]:
    """Lines of the child's output; None now and then while it is silent."""
    assert child.stdout is not None
    for line in with_idle(child.stdout):
        if line is not None:
            yield line.decode("utf-8", errors="replace").rstrip("\r\n")
        elif child.poll() is not None:
            return  # a grandchild may keep the pipe open after the child has ended
        else:
            yield None
