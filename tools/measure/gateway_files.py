"""Whether the files that archgw and Plano released can be forwarded by: reads them from a checkout of every tag.

    python -m tools.measure.gateway_files CHECKOUT...

A CHECKOUT is a git repository of archgw or Plano, a bare one will do; without tags its last commit is read. Of each file that
defines routes, the command starts what forwards, with a stand-in for every variable that the file names. Then every address is
replaced by one server of this process, and requests come through the server's HTTP door: one for ``auto``, decided by ``mini``,
and one for each name of each model. Nothing leaves the machine. The exit code is 1 if a file does not start or a request fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import httpx

from archroute_edge import ArchRouteError, Router, RoutingConfig, RoutingService, parse_config
from archroute_edge.server import ServerSettings
from archroute_edge.server.http._app import ServerApp

_PROVIDERS: Final = re.compile(r"^(llm_providers|model_providers)\s*:", re.M)
_ROUTES: Final = re.compile(r"^\s*(- *)?(routing_preferences|usage)\s*:", re.M)
_VARIABLE: Final = re.compile(r"\$\{?([A-Za-z_]\w*)", re.ASCII)
_STAND_IN: Final = "stand-in-for-a-key"


@dataclass(frozen=True)
class File:
    """One text, and everywhere that it was released.

    Args:
        text: the file.
        places: ``repository tag:path``, the first release first.
    """

    text: str
    places: tuple[str, ...]


def released_files(checkouts: tuple[str, ...]) -> tuple[list[File], int]:
    """The files of all tags that define routes for models, and the number of tags; what two repositories share counts once."""
    found: dict[str, dict[str, str]] = {}
    texts: dict[str, str] = {}
    tags: set[str] = set()
    for checkout in checkouts:
        of_checkout = _git(checkout, "tag").decode().split() or ["HEAD"]
        tags.update(of_checkout)
        blobs = {tag: list(_yaml_files(checkout, tag)) for tag in of_checkout}
        needed = {blob for each in blobs.values() for blob, _ in each} - texts.keys()
        texts.update(_texts(checkout, sorted(needed)))
        for tag, each in blobs.items():
            for blob, path in each:
                text = texts[blob]
                if _PROVIDERS.search(text) and _ROUTES.search(text):
                    found.setdefault(blob, {}).setdefault(f"{tag}:{path}", checkout)
    return [File(texts[blob], tuple(places)) for blob, places in found.items()], len(tags)


def _git(checkout: str, *arguments: str, stdin: bytes = b"") -> bytes:
    # A checkout may belong to another user; it is only read.
    trusted = ["-c", "safe.directory=*"]
    return subprocess.run(["git", "-C", checkout, *trusted, *arguments], input=stdin, stdout=subprocess.PIPE, check=True).stdout


def _yaml_files(checkout: str, tag: str) -> Iterator[tuple[str, str]]:
    for line in _git(checkout, "ls-tree", "-r", "-z", tag).decode().split("\0"):
        meta, _, path = line.partition("\t")
        if path.endswith((".yaml", ".yml")) and meta.split()[1] == "blob":
            yield meta.split()[2], path


def _texts(checkout: str, blobs: list[str]) -> dict[str, str]:
    data = _git(checkout, "cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in blobs).encode())
    found: dict[str, str] = {}
    at = 0
    for blob in blobs:
        head, at = data[at : data.index(b"\n", at)], data.index(b"\n", at) + 1
        if head.endswith(b"missing"):
            raise click.ClickException(f"{checkout} lacks the file {blob}; take a whole copy, not a partial clone")
        length = int(head.split()[2])
        found[blob] = data[at : at + length].decode("utf-8", errors="replace")
        at += length + 1
    return found


class LocalUpstream:
    """A server on loopback that answers every request as a chat completion, and remembers which model was asked for."""

    def __init__(self) -> None:
        asked: list[tuple[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked.append((self.path, body["model"]))
                message = {"role": "assistant", "content": "yes"}
                reply: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"]}
                reply["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
                data = json.dumps(reply).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Silent."""

        self.asked = asked
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LocalUpstream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def stand_ins(text: str) -> Iterator[None]:
    """A value for every variable that a text names and that is not set."""
    missing = {name for name in _VARIABLE.findall(text) if not os.environ.get(name)}
    os.environ.update(dict.fromkeys(missing, _STAND_IN))
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


def with_address(config: RoutingConfig, address: str) -> RoutingConfig:
    """The configuration with every address replaced; the path of one that the file gives stays."""
    moved = []
    for each in config.models:
        path = urlsplit(each.upstream.base_url or "").path
        moved.append(replace(each, upstream=replace(each.upstream, base_url=address + path)))
    return replace(config, models=tuple(moved))


class Asker:
    """Asks servers of this process, each of another file; the router's model is loaded once."""

    def __init__(self, service: RoutingService) -> None:
        self._service = service

    def start(self, config: RoutingConfig) -> ServerApp:
        """The server of a configuration.

        Raises:
            ConfigError: it cannot be forwarded by.
        """
        self._service.replace(self._service.router.with_config(config))
        return ServerApp(self._service, ServerSettings(port=0, forward=True))

    def ask(self, config: RoutingConfig, upstream: LocalUpstream) -> tuple[int, list[str]]:
        """How many requests were sent, and what was wrong with some: ``auto``, then each model by each of its names."""
        app = self.start(config)
        names: dict[str, str | None] = {"auto": None}
        for each in config.models:
            if not each.internal and not each.is_wildcard:
                names.update({each.model: each.model, each.name or each.model: each.model})
        return len(names), asyncio.run(self._ask(app, config, names, upstream))

    async def _ask(
        self, app: ServerApp, config: RoutingConfig, names: dict[str, str | None], upstream: LocalUpstream
    ) -> list[str]:
        problems = []
        first = next(iter(config.table))
        transport = httpx.ASGITransport(app.asgi, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for name, model in names.items():
                upstream.asked.clear()
                # The client's own key, for models that it is passed on to.
                headers = {"Authorization": f"Bearer {_STAND_IN}"}
                message = {"role": "user", "content": first.description or first.name}
                body = {"model": name, "messages": [message]}
                reply = await client.post("/v1/chat/completions", json=body, headers=headers)
                problem = _problem(model, reply, upstream.asked)
                if problem:
                    problems.append(f"model {name}: {problem}")
        if app.gateway is not None:
            await app.gateway.close()
        return problems


def _problem(expected: str | None, reply: httpx.Response, asked: list[tuple[str, str]]) -> str | None:
    """What is wrong with an answer; None if nothing is. ``expected`` is the model that has to give it, None for any."""
    if reply.status_code != 200:
        return f"status {reply.status_code}: {reply.text[:200]}"
    target = reply.headers.get("x-archroute-model", "")
    if expected is not None and target != expected:
        return f"answered by {target}"
    if len(asked) != 1:
        return f"{len(asked)} requests came to the upstream"
    path, model = asked[0]
    if not path.endswith("/chat/completions"):
        return f"sent to {path}"
    if model not in (target, target.partition("/")[2]):
        return f"the upstream was asked for {model}, the answer names {target}"
    return None


@click.command(help=__doc__)
@click.argument("checkouts", metavar="CHECKOUT...", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False))
def main(checkouts: tuple[str, ...]) -> None:
    files, n_tags = released_files(checkouts)
    counts: Counter[str] = Counter()
    anything = parse_config("routing_preferences: [{name: a, description: anything}]")
    router = Router(config=anything, model="mini", threads=1, prefix_cache=False)
    with LocalUpstream() as upstream, RoutingService(router) as service:
        asker = Asker(service)
        for file in files:
            _try(file, asker, upstream, counts)
    n_released = sum(len(file.places) for file in files)
    print(f"{n_released} files of {n_tags} tags define routes, {len(files)} of them different")
    for what in ("read", "started", "answered"):
        print(f"{what}: {counts[what + ' files']} of {n_released}, {counts[what]} of {len(files)} different")
    print(f"requests: {counts['requests']}, failed: {counts['failed']}")
    sys.exit(counts["answered"] < len(files) or not files)


def _try(file: File, asker: Asker, upstream: LocalUpstream, counts: Counter[str]) -> None:
    place = file.places[0]

    def passed(what: str) -> None:
        counts[what] += 1
        counts[f"{what} files"] += len(file.places)

    try:
        config = parse_config(file.text, path=Path(place))
        passed("read")
        with stand_ins(file.text):
            asker.start(config)
            passed("started")
            n_requests, problems = asker.ask(with_address(config, upstream.address), upstream)
    except ArchRouteError as error:
        print(f"{error} ({_files(len(file.places))})")
        return
    counts["requests"] += n_requests
    counts["failed"] += len(problems)
    for problem in problems:
        print(f"{place}: {problem} ({_files(len(file.places))})")
    if not problems:
        passed("answered")


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"


if __name__ == "__main__":
    main()
