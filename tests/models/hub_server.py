"""A small Hugging Face hub on this machine: the parts of its HTTP API that a download uses, and ways to misbehave.

Large files are answered with a redirect to a second server, as the hub sends clients to its storage, so that one sees
what the client tells a foreign host.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".gguf", ".safetensors", ".bin")


@dataclass(frozen=True)
class Request:
    """A request that was made: ``range`` and ``authorization`` are its headers, None where it had none."""

    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Hub:
    """What the server has, how it behaves, and what it was asked.

    Attributes:
        repos: names and contents of the files of each repository.
        revisions: the branches and tags, all at :data:`COMMIT`.
        refuse: an HTTP status and the hub's error code, for every request to a repository.
        cuts: for each of the next downloads, the bytes after which the connection is closed (None: not at all).
        statuses: the HTTP statuses that the next downloads are refused with.
        swapped: send other bytes of the same length.
        knows_ranges: answer a request for a part with the part.
        hold_at: after this many bytes of a download wait for ``release``.
    """

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: set[str] = field(default_factory=lambda: {"main", "v1.0"})
    refuse: tuple[int, str] | None = None
    cuts: list[int | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    swapped: bool = False
    knows_ranges: bool = True
    hold_at: int | None = None
    release: threading.Event = field(default_factory=threading.Event)
    asked: list[Request] = field(default_factory=list)
    stored: list[Request] = field(default_factory=list)
    url: str = ""
    storage_url: str = ""

    def find(self, digest: str) -> bytes:
        """The large file of that SHA-256."""
        files = (content for repo in self.repos.values() for content in repo.values())
        return next(content for content in files if hashlib.sha256(content).hexdigest() == digest)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""

    def note(self, into: list[Request]) -> None:
        into.append(Request(self.command, self.path, self.headers["Range"], self.headers["Authorization"]))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _HubHandler(_Handler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.note(self.hub.asked)
        path = unquote(self.path)
        if self.hub.refuse is not None and "/org/" in path:
            status, code = self.hub.refuse
            self.answer(status, b"", **({"X_Error_Code": code} if code else {}))
        elif match := re.fullmatch(r"/api/models/(org/[^/]+)(?:/revision/(.+))?", path):
            self.describe(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/(org/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(match[1], match[2], match[3])
        else:
            self.answer(404)

    def describe(self, repo: str, revision: str) -> None:
        if repo not in self.hub.repos:
            self.answer(404, X_Error_Code="RepoNotFound")
        elif revision not in self.hub.revisions | {COMMIT}:
            self.answer(404, X_Error_Code="RevisionNotFound")
        else:
            siblings = [{"rfilename": name} for name in self.hub.repos[repo]]
            info: dict[str, Any] = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings}
            self.answer(200, json.dumps(info).encode(), Content_Type="application/json")

    def resolve(self, repo: str, revision: str, name: str) -> None:
        content = self.hub.repos.get(repo, {}).get(name)
        if content is None or revision != COMMIT:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        elif name.endswith(LARGE):
            digest = hashlib.sha256(content).hexdigest()
            self.answer(
                302,
                Location=f"{self.hub.storage_url}/{digest}",
                X_Repo_Commit=COMMIT,
                X_Linked_Etag=f'"{digest}"',
                X_Linked_Size=str(len(content)),
                ETag='"of-the-redirect"',
            )
        else:
            digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            self.answer(200, content, X_Repo_Commit=COMMIT, ETag=f'"{digest}"')


class _StorageHandler(_Handler):
    def do_GET(self) -> None:
        self.note(self.hub.stored)
        if self.hub.statuses:
            self.answer(self.hub.statuses.pop(0))
            return
        content = self.hub.find(self.path.removeprefix("/"))
        size = len(content)
        if self.hub.swapped:
            content = bytes(size)
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")) if self.headers["Range"] else 0
        start = start if self.hub.knows_ranges else 0
        cut = self.hub.cuts.pop(0) if self.hub.cuts else None
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        content = content[start:]
        if self.hub.hold_at is not None and not self.hub.release.is_set():
            self.wfile.write(content[: self.hub.hold_at])
            self.wfile.flush()
            self.hub.release.wait(30)
            content = content[self.hub.hold_at :]
        try:
            self.wfile.write(content if cut is None else content[:cut])
        except OSError:
            cut = 0  # the client has gone
        if cut is not None:
            self.close_connection = True


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve ``hub`` from two ports while the block runs.

    The storage has another host name, too: clients up to 2.3 take another port of the same host for the same server.
    """
    servers = []
    for handler in (_HubHandler, _StorageHandler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type(handler.__name__, (handler,), {"hub": hub}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
    hub.url, hub.storage_url = (
        f"http://{host}:{server.server_address[1]}" for host, server in zip(("127.0.0.1", "localhost"), servers, strict=True)
    )
    try:
        yield hub
    finally:
        hub.release.set()
        for server in servers:
            server.shutdown()
            server.server_close()
