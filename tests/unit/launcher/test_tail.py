"""Reading logs that grow."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftl_launcher.backends import tail
from ftl_launcher.backends.tail import tail_file


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "_IDLE_S", 0.0)
    monkeypatch.setattr(tail, "_LOOK_EVERY_S", 0.0)


def test_whole_log_without_following(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\r\ntwo\n\nbroken \xff\nlast")
    lines = list(tail_file(path, follow=False, is_over=lambda: False))
    assert lines == ["one", "two", "", "broken \ufffd", "last"]


def test_missing_log(tmp_path: Path) -> None:
    assert list(tail_file(tmp_path / "none", follow=False, is_over=lambda: False)) == []
    assert list(tail_file(tmp_path / "none", follow=True, is_over=lambda: True)) in ([], [None])


def lines_of(stream: Iterator[str | None], count: int) -> list[str]:
    """The next lines, idle beats left out."""
    found: list[str] = []
    while len(found) < count:
        if (line := next(stream)) is not None:
            found.append(line)
    return found


def test_following_a_file_that_appears_grows_and_is_replaced(tmp_path: Path) -> None:
    path, over = tmp_path / "log", [False]
    stream = tail_file(path, follow=True, is_over=lambda: over[0])
    assert next(stream) is None
    path.write_text("one\ntw")
    assert lines_of(stream, 1) == ["one"]
    assert next(stream) is None
    with path.open("a") as file:
        file.write("o\n")
    assert lines_of(stream, 1) == ["two"]
    with path.open("a") as old:
        path.unlink()
        old.write("three")
    over[0] = True
    assert [line for line in stream if line is not None] == ["three"]


def test_what_is_written_just_before_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\n")

    def over() -> bool:
        with path.open("a") as file:
            file.write("late\n")
        return True

    assert [line for line in tail_file(path, follow=True, is_over=over) if line is not None] == ["one", "late"]


def test_a_long_log_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as file:
        for _ in range(200):
            file.write(("x" * 199 + "\n") * 500)  # 20 MB
    tracemalloc.start()
    count = sum(1 for _ in tail_file(path, follow=False, is_over=lambda: True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 2_000_000
