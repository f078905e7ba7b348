"""A small Hugging Face Hub on loopback: the routes a client uses, with faults on demand.

Answers follow the real Hub's: ``X-Error-Code`` for refusals, 401 for a repository that is not
there, a redirect to another host for large files, ``Range`` honoured there.
"""

import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants

COMMIT = "c" * 40
TOKEN = "hf_loopback"


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass
class Repo:
    """A repository and what is wrong with it.

    Attributes:
        cuts: for each file, after how many bytes each next answer is cut off.
        failures: for each file, the status of each next answer.
        listed_sizes: sizes that the listing gives instead of the true ones.
        served: contents that are sent instead of the listed ones.
    """

    files: dict[str, bytes]
    commit: str = COMMIT
    branches: tuple[str, ...] = ("main",)
    large: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")
    card: dict[str, Any] = field(default_factory=lambda: {"license": "apache-2.0"})
    tags: tuple[str, ...] = ()
    gated: bool = False
    private: bool = False
    cuts: dict[str, list[int]] = field(default_factory=dict)
    failures: dict[str, list[int]] = field(default_factory=dict)
    listed_sizes: dict[str, int] = field(default_factory=dict)
    served: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True

    def is_large(self, name: str) -> bool:
        return name in self.large or name.endswith((".safetensors", ".bin"))

    def listing(self, repo_id: str) -> dict[str, Any]:
        siblings = []
        for name, content in self.files.items():
            size = self.listed_sizes.get(name, len(content))
            entry = {"rfilename": name, "size": size, "blobId": git_id(content)}
            if self.is_large(name):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"size": size, "sha256": digest, "pointerSize": 134}
            siblings.append(entry)
        return {
            "id": repo_id,
            "modelId": repo_id,
            "sha": self.commit,
            "private": self.private,
            "gated": "manual" if self.gated else False,
            "cardData": self.card,
            "tags": list(self.tags),
            "siblings": siblings,
        }


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    agent: str


class LoopbackHub:
    """The server's state: what it holds and what it was asked.

    Attributes:
        raw: answers to paths, in place of what a Hub would say.
        headers: sent with every answer.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}"
        self.repos: dict[str, Repo] = {}
        self.seen: list[Seen] = []
        self.raw: dict[str, bytes] = {}
        self.headers: dict[str, str] = {}

    def fetched(self, name: str) -> list[Seen]:
        """The requests that reached the bytes of a file."""
        return [seen for seen in self.seen if seen.path.startswith("/cdn/") and name in seen.path]


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the tests' own stderr clean."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        authorization = self.headers.get("Authorization")
        agent = self.headers.get("User-Agent", "")
        asked = self.headers.get("Range")
        self.hub.seen.append(Seen(self.command, path, asked, authorization, agent))
        if path in self.hub.raw:
            self._send(200, self.hub.raw[path], {"Content-Type": "text/html"})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._list(match[1], match[2])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[2], match[3])
        elif match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            self._serve(self.hub.repos[match[1]], match[2])
        else:
            self._refuse(404, "EntryNotFound")

    def _find(self, repo_id: str, revision: str | None) -> Repo | None:
        """The repository, unless a refusal was sent."""
        repo = self.hub.repos.get(repo_id)
        authorization = self.headers.get("Authorization")
        known = authorization == f"Bearer {TOKEN}"
        if authorization is not None and not known:
            self._refuse(401, None, "Invalid credentials in Authorization header")
        elif repo is None or (repo.private and not known):
            self._refuse(404 if known else 401, "RepoNotFound" if known else None)
        elif revision is not None and revision not in (*repo.branches, repo.commit):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repo
        return None

    def _list(self, repo_id: str, revision: str | None) -> None:
        if (repo := self._find(repo_id, revision)) is not None:
            self._send(200, json.dumps(repo.listing(repo_id)).encode(), {})

    def _resolve(self, repo_id: str, revision: str, name: str) -> None:
        if (repo := self._find(repo_id, revision)) is None:
            return
        if repo.gated:
            known = self.headers.get("Authorization") is not None
            self._refuse(403 if known else 401, "GatedRepo", f"Access to {repo_id} is restricted.")
        elif name not in repo.files:
            self._refuse(404, "EntryNotFound", "Entry not found")
        elif repo.is_large(name):
            content = repo.files[name]
            headers = {
                "X-Repo-Commit": repo.commit,
                "X-Linked-Size": str(len(content)),
                "X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "Location": f"http://localhost:{self.hub.port}/cdn/{repo_id}/{name}",
            }
            self._send(302, b"", headers)
        else:
            self._serve(repo, name)

    def _serve(self, repo: Repo, name: str) -> None:
        """The bytes of a file, or of the range that was asked for, as the faults allow."""
        if repo.failures.get(name):
            self._refuse(repo.failures[name].pop(0), None)
            return
        content = repo.served.get(name, repo.files[name])
        start = 0
        if repo.ranges and (asked := self.headers.get("Range")) is not None:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content) > 0:
            self._refuse(416, None)
            return
        headers = {"ETag": f'"{git_id(repo.files[name])}"', "X-Repo-Commit": repo.commit}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = repo.cuts[name].pop(0) if repo.cuts.get(name) else None
        self._send(206 if start else 200, content[start:], headers, cut)

    def _refuse(self, status: int, code: str | None, message: str = "") -> None:
        headers = {"X-Error-Message": message} if message else {}
        if code is not None:
            headers["X-Error-Code"] = code
        self._send(status, b"", headers)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in (self.hub.headers | headers).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of what is wrong here; that a client hung up is not, and some tests do."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve_hub() -> Iterator[LoopbackHub]:
    """Run the Hub in a thread."""
    handler = type("Handler", (_Handler,), {})
    server = _Server(("127.0.0.1", 0), handler)
    hub = LoopbackHub(server.server_address[1])
    handler.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def use_hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """Let huggingface_hub talk to a Hub of its own here, with its cache in ``home``."""
    with serve_hub() as server:
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("BIGCODE_HOME", str(home / "bigcode"))
        monkeypatch.setattr(time, "sleep", lambda _: None)
        close_session()
        yield server
        close_session()
