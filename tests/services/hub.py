"""A Hugging Face hub on loopback: the part of its protocol that reading models and datasets and pushing sets takes.

The clients are the real ones (huggingface_hub, datasets); they find it through ``HF_ENDPOINT``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_planted-token-4Vq8"
Files = dict[str, bytes]


@dataclass
class HubRepo:
    """A dataset or model: the files of each revision. ``gated`` ones are for holders of ``TOKEN``."""

    revisions: dict[str, Files] = field(default_factory=lambda: {"main": {}})
    gated: bool = False
    private: bool = False

    def sha(self, revision: str) -> str:
        parts = [f"{path}:{hashlib.sha1(body).hexdigest()}" for path, body in sorted(self.files(revision).items())]
        return hashlib.sha1("\n".join(parts).encode()).hexdigest()

    def files(self, revision: str) -> Files:
        if revision in self.revisions:
            return self.revisions[revision]
        return next(files for name, files in self.revisions.items() if self.sha(name) == revision)


@dataclass
class Hub:
    """What is stored, and what was asked (``GET /api/...``)."""

    repos: dict[str, HubRepo] = field(default_factory=dict)
    url: str = ""
    asked: list[str] = field(default_factory=list)
    large: dict[str, bytes] = field(default_factory=dict)
    """Uploaded large files by SHA-256, named by commits afterwards."""

    @property
    def environment(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}


class _Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(f"{self.command} {self.path}")
        path = unquote(urlsplit(self.path).path)
        try:
            if match := re.fullmatch(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self._file(*match.groups())
            elif path == "/api/validate-yaml":
                self._json({"errors": [], "warnings": []})
            elif match := re.fullmatch(r"/datasets/[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
                self._large_files(json.loads(body))
            elif path.startswith("/large/"):
                self.hub.large[path.removeprefix("/large/")] = body
                self._json({})
            elif path == "/api/repos/create":
                self._create(json.loads(body))
            elif match := re.fullmatch(r"/api/(?:datasets|models)/([^/]+/[^/]+?)(?:/(\w[\w-]*)/?([^/]*)/?(.*))?", path):
                self._api(*match.groups(default=""), body=body)
            else:
                raise _Refused(404, "EntryNotFound")
        except _Refused as refused:
            self._send(refused.status, b"{}", {"X-Error-Code": refused.code, "X-Error-Message": refused.code})
        except StopIteration:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no such revision"})

    def _repo(self, name: str) -> HubRepo:
        repo = self.hub.repos.get(name)
        authorized = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repo is None or (repo.private and not authorized):
            raise _Refused(404 if authorized else 401, "RepoNotFound")
        return repo

    def _api(self, name: str, verb: str, revision: str, rest: str, body: bytes) -> None:
        repo = self._repo(name)
        revision = revision or "main"
        if verb in ("", "revision"):
            files = [{"rfilename": path} for path in sorted(repo.files(revision))]
            info = {"id": name, "sha": repo.sha(revision), "siblings": files, "private": repo.private, "tags": []}
            self._json({**info, "downloads": 0, "likes": 0, "gated": repo.gated})
        elif verb == "tree":
            self._json(self._tree(repo.files(revision), rest))
        elif verb == "paths-info":
            wanted = parse_qs(body.decode()).get("paths", []) or json.loads(body or b"{}").get("paths", [])
            self._json(
                [self._entry(path, repo.files(revision)[path]) for path in wanted if path in repo.files(revision)]
            )
        elif verb == "preupload":
            files = json.loads(body)["files"]
            modes = {f["path"]: "lfs" if f["path"].endswith(".parquet") else "regular" for f in files}
            told = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
            self._json({"files": told})
        elif verb == "commit":
            self._commit(repo, revision, body)
        else:
            raise _Refused(404, "EntryNotFound")

    def _tree(self, files: Files, folder: str) -> list[dict[str, Any]]:
        below = {path: body for path, body in files.items() if not folder or path.startswith(f"{folder}/")}
        if folder and not below:
            raise _Refused(404, "EntryNotFound")
        if parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("true", "1"):
            return [self._entry(path, body) for path, body in sorted(below.items())]
        children: dict[str, dict[str, Any]] = {}
        for path, body in sorted(below.items()):
            child = PurePosixPath(path).relative_to(folder or ".").parts[0]
            full = f"{folder}/{child}" if folder else child
            is_file = full == path
            children[full] = self._entry(path, body) if is_file else {"type": "directory", "path": full, "oid": "0"}
        return list(children.values())

    def _entry(self, path: str, body: bytes) -> dict[str, Any]:
        return {"type": "file", "path": path, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}

    def _file(self, name: str, revision: str, path: str) -> None:
        repo = self._repo(name)
        if repo.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise _Refused(401, "GatedRepo")
        body = repo.files(revision).get(path)
        if body is None:
            raise _Refused(404, "EntryNotFound")
        headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": repo.sha(revision)}
        wanted = self.headers.get("Range")
        if not wanted:
            self._send(200, body, {**headers, "Accept-Ranges": "bytes"})
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = body[int(first) : int(last or len(body)) + 1]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}"
        self._send(206, part, headers)

    def _create(self, wanted: dict[str, Any]) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise _Refused(401, "")
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        self.hub.repos[name] = HubRepo(private=wanted.get("visibility") == "private")
        self._json({"url": f"{self.hub.url}/datasets/{name}", "id": name})

    def _commit(self, repo: HubRepo, revision: str, body: bytes) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise _Refused(401, "")
        for line in body.splitlines():
            record = json.loads(line)
            value = record["value"]
            if record["key"] == "file":
                repo.revisions[revision][value["path"]] = base64.b64decode(value["content"])
            elif record["key"] == "lfsFile":
                repo.revisions[revision][value["path"]] = self.hub.large[value["oid"]]
            elif record["key"] == "deletedFile":
                repo.revisions[revision].pop(value["path"], None)
        sha = repo.sha(revision)
        self._json({"commitUrl": f"{self.hub.url}/commit/{sha}", "commitOid": sha, "pullRequestUrl": None})

    def _large_files(self, wanted: dict[str, Any]) -> None:
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.hub.url}/large/{each['oid']}", "header": {}}}}
            for each in wanted["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub without datasets, for as long as the block lasts."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
