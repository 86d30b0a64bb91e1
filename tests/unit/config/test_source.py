"""Where a config comes from."""

from __future__ import annotations

import io
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest

from ftl_config import ConfigError, load_config
from ftl_config.parse import MAX_BYTES
from ftl_config.source import read_source
from tests.unit.config.configs import BASE

URL = "https://example.com/config.yml"


def message_of(source: str | Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(source)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(BASE)
    assert load_config(path).source_name == str(path)


def test_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(BASE)
    message = message_of(tmp_path / "config.yml")
    assert "config.yml: error: no such file" in message
    assert f"did you mean {tmp_path / 'config.yaml'}?" in message


def test_missing_directory(tmp_path: Path) -> None:
    assert "does not exist" in message_of(tmp_path / "nowhere" / "config.yml")


def test_directory_names_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "lora.yml").write_text(BASE)
    message = message_of(tmp_path)
    assert "is a directory" in message
    assert "lora.yml" in message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80\x04\x00binary\x00", "is a binary file"),
        (b"a: 1\nb: \xff\xfe\n", ":2: error: is not UTF-8 text"),
        (b"a: " + b"x" * MAX_BYTES, "larger than 1024 KiB"),
        (b"", "the config is empty"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "config.yml"
    path.write_bytes(data)
    assert message in message_of(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_of_windows(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(BASE, encoding=encoding)
    assert load_config(path).config.model.base_model == "some/model"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(BASE.encode())))
    assert load_config("-").source_name == "<stdin>"


class Response(io.BytesIO):
    def __init__(self, data: bytes, url: str = URL) -> None:
        super().__init__(data)
        self.url = url


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | Exception, str], None]:
    """Sets what the network answers."""

    def set_answer(data: bytes | Exception, url: str = URL) -> None:
        def urlopen(_: str, timeout: float) -> Response:
            assert timeout > 0
            if isinstance(data, Exception):
                raise data
            return Response(data, url)

        monkeypatch.setattr(urllib.request, "urlopen", urlopen)

    return set_answer


def test_address(answer: Callable[..., None]) -> None:
    answer(BASE.encode())
    assert read_source(URL) == (BASE, URL)


@pytest.mark.parametrize(
    ("data", "url", "message"),
    [
        (URLError("no route"), URL, "cannot be fetched: no route"),
        (TimeoutError("timed out"), URL, "cannot be fetched"),
        (b"<!DOCTYPE html><html>", URL, "answered with a web page"),
        (b"a: 1", "http://example.com/x", "redirected to an address that is not https"),
        (b"x" * (MAX_BYTES + 1), URL, "larger than"),
    ],
)
def test_address_that_fails(answer: Callable[..., None], data: bytes | Exception, url: str, message: str) -> None:
    answer(data, url)
    assert message in message_of(URL)


@pytest.mark.parametrize("source", ["http://example.com/c.yml", "s3://bucket/c.yml"])
def test_other_addresses_are_refused(source: str) -> None:
    assert "only https:// addresses" in message_of(source)
