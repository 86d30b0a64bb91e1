"""Where a model's config.json is found."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ftl_config.errors import FtlError
from ftl_config.load import load_text
from ftl_config.memory.model_config import read_model_config

SHAPES = {"model_type": "llama", "hidden_size": 8}
TOKEN = "hf_planted"


def config(base_model: str, **keys: Any) -> Any:
    return load_text(json.dumps({"base_model": base_model, **keys}), partial=True).config


@pytest.fixture
def hub() -> Iterator[str]:
    """A server that has the config.json of one gated model."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/org/model/resolve/main/config.json"
            allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            self.send_response((200 if allowed else 401) if known else 404)
            self.end_headers()
            if known and allowed:
                self.wfile.write(json.dumps(SHAPES).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_folder_with_changes_from_the_config(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/config.json").write_text(json.dumps(SHAPES))
    found = read_model_config(config("./m", model_config={"hidden_size": 16}), tmp_path)
    assert found == {**SHAPES, "hidden_size": 16}


def test_the_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants, try_to_load_from_cache

    repo = tmp_path / "models--org--model"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text("abc")
    (repo / "snapshots/abc").mkdir(parents=True)
    (repo / "snapshots/abc/config.json").write_text(json.dumps(SHAPES))
    assert try_to_load_from_cache("org/model", "config.json", cache_dir=tmp_path), constants.HF_HUB_CACHE
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert read_model_config(config("org/model"), tmp_path / "elsewhere") == SHAPES
    assert read_model_config(config("org/model", model_revision="abc"), tmp_path / "elsewhere") == SHAPES


def test_the_hub_itself(hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", hub)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert read_model_config(config("org/model"), tmp_path) == SHAPES
    monkeypatch.delenv("HF_TOKEN")
    for name, says in (("org/model", "401"), ("org/other", "404")):
        with pytest.raises(FtlError, match=says):
            read_model_config(config(name), tmp_path)


def test_offline_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FtlError, match="HF_HUB_OFFLINE"):
        read_model_config(config("org/model"), tmp_path)


@pytest.mark.parametrize("text", ["[1]", "{", ""])
def test_a_file_that_is_no_config(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(FtlError, match=r"config\.json"):
        read_model_config(config(str(tmp_path)), tmp_path)
