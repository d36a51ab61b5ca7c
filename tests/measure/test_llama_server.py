"""The client of llama-server, against a server of a few lines in its place."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from archroute_edge.errors import PeerError
from tests.measure.conftest import Program
from tools.measure.peers.llama_server import LlamaServer
from tools.measure.peers.question import Question

QUESTION = Question("example", "hello", "body", [5, 6, 7, 8], 1, '{"route": "a"}', [21, 22, 23])

# Loading for two requests, then healthy. Echoes what it is asked, so that the test sees it; the model's name says how it
# behaves.
SERVER = """
import http.server, json, sys

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
behaviour = arguments["-m"]
if behaviour == "unreadable":
    print("loading ...", file=sys.stderr)
    sys.exit("error: not a model")
n_asked = 0

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        global n_asked
        n_asked += 1
        self.answer(503 if n_asked < 3 else 200, {})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if behaviour == "failing":
            return self.answer(500, {"error": "no slot"})
        if behaviour == "ending":
            sys.stderr.write("fatal: out of memory\\n")
            sys.stderr.flush()
            import os
            os._exit(3)
        held = asked.get("grammar") == "root ::= <[21]> <[22]> <[23]>" and asked["cache_prompt"] and asked["temperature"] == 0
        self.answer(200, {
            "content": '{"route": "a"}' if held else "wandering",
            "stop_type": "limit" if behaviour == "cut short" else "eos",
            "tokens_predicted": asked["n_predict"],
            "timings": {"cache_n": 3, "prompt_n": len(asked["prompt"]) - 3} if behaviour != "terse" else {},
        })

    def log_message(self, *arguments):
        pass

http.server.HTTPServer((arguments["--host"], int(arguments["--port"])), Handler).serve_forever()
"""


def test_a_decision(program: Program) -> None:
    """Counts read wrongly would show reuse where there is none."""
    with LlamaServer(program(SERVER), Path("sound"), 1) as server:
        reply = server.decide(QUESTION)
        process = psutil.Process(server.process.pid)
    assert (reply.answer, reply.n_prompt, reply.n_reused) == (QUESTION.answer, 4, 3)
    # One new token of the prompt and three of the answer; the end of generation is not put through the model.
    assert reply.n_evaluated == 4
    assert reply.seconds > 0
    assert not process.is_running()


def test_without_a_grammar_no_answer_is_claimed(program: Program) -> None:
    """What it writes of its own choice is no decision, and must not be counted as one."""
    with LlamaServer(program(SERVER), Path("sound"), 1, grammar=False) as server:
        assert server.decide(QUESTION).answer is None


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("unreadable", "llama-server ended with status 1: error: not a model"),
        ("failing", 'llama-server: HTTP 500 from /completion: {"error": "no slot"}'),
        ("ending", "llama-server ended with status 3: fatal: out of memory"),
        ("cut short", "llama-server: stopped by 'limit' instead of the end of the answer"),
        ("terse", "llama-server: an answer without content or timings"),
    ],
)
def test_failures_say_what_happened(program: Program, behaviour: str, message: str) -> None:
    """A peer that fails would else be waited for, or be measured as if it had answered."""
    with pytest.raises(PeerError) as caught, LlamaServer(program(SERVER), Path(behaviour), 1) as server:
        server.decide(QUESTION)
    assert str(caught.value).startswith(message)


def test_an_interrupt_ends_the_server(program: Program) -> None:
    """A server that is left behind holds gigabytes, and a core where it spins."""
    with pytest.raises(KeyboardInterrupt), LlamaServer(program(SERVER), Path("sound"), 1) as server:
        process = psutil.Process(server.process.pid)
        raise KeyboardInterrupt
    assert not process.is_running()


def test_a_program_that_is_none(tmp_path: Path) -> None:
    """One line, not a traceback."""
    (tmp_path / "notes").write_text("no program")
    with pytest.raises(PeerError, match=r"notes cannot be run \(Permission denied\)"):
        LlamaServer(tmp_path / "notes", Path("sound"), 1)
