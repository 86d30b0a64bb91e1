"""What is made of an engine's answer about an image."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from ftl_config.errors import FtlError
from ftl_launcher.image_inspection import check_image, image_size
from ftl_launcher.images import LOCK_HASH_LABEL, find_flavour

OURS = find_flavour("cpu")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only engine on the PATH, which knows what the test tells it."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("ftl_launcher.image_inspection._ENGINES", ("podman",))
    return tmp_path / "podman"


def knows(engine: Path, labels: dict[str, str] | None) -> None:
    answer = json.dumps([{"Size": 2_000_000, "Config": {"Labels": labels}}])
    body = f"printf '%s' {shlex.quote(answer)}" if labels is not None else "exit 125"
    engine.write_text(f"#!/bin/sh\n{body}\n")
    engine.chmod(0o755)


def test_an_image_of_ours_has_to_fit(engine: Path) -> None:
    knows(engine, {LOCK_HASH_LABEL: OURS.lock_hash, "ftl.flavour": "cpu"})
    check_image("mine:1", must_be_here=True)
    assert image_size("mine:1") == 2_000_000
    knows(engine, {LOCK_HASH_LABEL: "0" * 12, "ftl.flavour": "cpu", "org.opencontainers.image.version": "0.0.1"})
    with pytest.raises(FtlError, match=r"built by ftl 0\.0\.1") as caught:
        check_image("mine:1", must_be_here=True)
    assert "ftl images build --flavour cpu" in (caught.value.hint or "")


def test_a_foreign_image_is_the_users_choice(engine: Path) -> None:
    knows(engine, {"maintainer": "somebody"})
    check_image("theirs:1", must_be_here=True)


def test_ours_that_was_not_built_is_named_with_the_command(engine: Path) -> None:
    knows(engine, None)
    with pytest.raises(FtlError, match=OURS.reference) as caught:
        check_image(OURS.reference, must_be_here=True)
    assert caught.value.hint == "`ftl images build --flavour cpu`"
    check_image(OURS.reference, must_be_here=False)
    check_image("somebody/else:1", must_be_here=True)  # the engine may pull it
    assert image_size(OURS.reference) is None
