"""Fetching a data set, from a server on this machine."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from archroute_edge.evaluation import read_cases
from training.cases import data_sets
from training.cases.cli import commands
from training.cases.data_sets import CLINC150, SCHEMA_GUIDED, DataSet, cache_folder, fetch
from training.cases.errors import DataSetError


@dataclass
class Server:
    """What is served by path, what was asked, and how many bytes of an answer are sent (None: all)."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cut: int | None = None
    url: str = ""


@contextmanager
def running() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            content = state.files.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write((content or b"")[: state.cut])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("ARCHROUTE_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with running() as state:
        monkeypatch.setattr(data_sets, "PUBLISHED_AT", state.url)
        yield state


SMALL = DataSet("small", "o/r/main", {"test": {"data/one.json": 100, "data/two.json": 100}}, "by us")


def nothing(step: str, done: int, total: int) -> None:
    pass


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_load_without_a_folder_fetches_once(server: Server, clinc150: Path, tmp_path: Path) -> None:
    for name in ("data_full.json", "domains.json"):
        server.files[f"/clinc/oos-eval/master/data/{name}"] = (clinc150 / "data" / name).read_bytes()
    for number in range(2):
        output = tmp_path / f"{number}.jsonl"
        done = CliRunner().invoke(commands, ["load", "clinc150", "-o", str(output), "--routes", "2", "--count", "20"])
        assert done.exit_code == 0, done.output
        assert len(read_cases(output)) == 20
    assert server.asked == [f"/{CLINC150.repository}/data/{name}" for name in ("data_full.json", "domains.json")]


def test_what_is_complete_is_kept_and_the_rest_fetched_later(server: Server) -> None:
    server.files = {"/o/r/main/data/one.json": b"first"}
    with pytest.raises(DataSetError, match=r"two\.json: the server answered HTTP 404; try again"):
        fetch(SMALL, "test", nothing)
    server.files["/o/r/main/data/two.json"] = b"second"
    folder = fetch(SMALL, "test", nothing)
    assert files_in(folder) == {"data/one.json": b"first", "data/two.json": b"second"}
    assert server.asked.count("/o/r/main/data/one.json") == 1


def test_progress_is_told_with_the_number_of_the_file(server: Server) -> None:
    server.files = {"/o/r/main/data/one.json": b"first", "/o/r/main/data/two.json": b"second"}
    told: list[tuple[str, int, int]] = []
    fetch(SMALL, "test", lambda step, done, total: told.append((step, done, total)))
    assert told == [("downloading data/one.json (1 of 2)", 5, 5), ("downloading data/two.json (2 of 2)", 6, 6)]


@pytest.mark.parametrize(
    ("content", "cut", "message"),
    [
        (b"x" * 101, None, "sends more than the 100 bytes"),
        (b"x" * 90, 40, "the connection ended at 40 of 90 bytes"),
        (b"", None, "the connection ended at 0 of 0 bytes"),
    ],
)
def test_a_file_that_is_not_whole_is_not_kept(server: Server, content: bytes, cut: int | None, message: str) -> None:
    server.files, server.cut = {"/o/r/main/data/one.json": content}, cut
    with pytest.raises(DataSetError) as caught:
        fetch(SMALL, "test", nothing)
    assert message in str(caught.value)
    assert files_in(cache_folder()) == {}


def test_no_server_is_one_line(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setattr(data_sets, "PUBLISHED_AT", "http://127.0.0.1:1")
    with pytest.raises(DataSetError, match=r"cannot be fetched .*; or give --from a folder") as caught:
        fetch(SMALL, "test", nothing)
    assert "\n" not in str(caught.value)


def test_a_redirect_away_from_https_is_refused(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """What comes in the clear can be anybody's."""
    server.files = {"/elsewhere": b"x"}
    in_the_clear = urllib.request.urlopen(f"{server.url}/elsewhere")
    monkeypatch.setattr(data_sets, "PUBLISHED_AT", "https://localhost")
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **options: in_the_clear)
    with pytest.raises(DataSetError, match=r"redirects to http://127.*, which is not HTTPS"):
        fetch(SMALL, "test", nothing)
    assert files_in(cache_folder()) == {}


def test_a_cache_that_cannot_be_written(server: Server) -> None:
    cache_folder().parent.mkdir(parents=True)
    cache_folder().write_text("a file is in the way", encoding="utf-8")
    with pytest.raises(DataSetError, match="cannot be written"):
        fetch(SMALL, "test", nothing)


def test_all_that_is_published_is_asked_for_by_https() -> None:
    assert data_sets.PUBLISHED_AT.startswith("https://")
    assert {split: len(files) for split, files in SCHEMA_GUIDED.files.items()} == {"train": 128, "dev": 21, "test": 35}
    assert list(SCHEMA_GUIDED.files["dev"])[-1] == "dev/dialogues_020.json"
