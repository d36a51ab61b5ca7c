"""A program that ends while threads decide: it ends soon, with its own exit code, and nothing on stderr but its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.gate import PATIENCE_S

pytestmark = pytest.mark.usefixtures("tried_kernels")

_BEGINNING = """\
import asyncio, atexit, os, sys, threading
from archroute_edge import AsyncRouter, Route, Router, RoutingService

ROUTES = [Route("bug_fixing", "fixing errors in code"), Route("poems", "writing poems")]
SETTINGS = {"model": sys.argv[1], "prefix_cache": False, "threads": 1, "budget": 8000}
if "TEST_ENGINE" in os.environ:
    SETTINGS["engine"] = os.environ["TEST_ENGINE"]
LONG = "a very long question " * 2000

def again_and_again(do):
    # Goes on until the program ends, which comes when it is in the middle of something.
    began = threading.Event()
    def repeat():
        while True:
            do()
            began.set()
    threading.Thread(target=repeat, daemon=True).start()
    began.wait()
"""

# Each is called in a thread that goes on until the program ends, which comes when it is in the middle of something.
_DAEMONS = {
    "calls of a router, of which some leave work behind": """
def route():
    router, texts = Router(ROUTES, **SETTINGS), iter(["a question"])
    again_and_again(lambda: router.route(next(texts, LONG)))

def deadline():
    router = Router(ROUTES, **SETTINGS)
    table = lambda: [Route(f"a{os.urandom(4).hex()}", "words " * 400)]
    again_and_again(lambda: router.route("a question", routes=table(), deadline=0.02))

def load():
    again_and_again(lambda: Router(ROUTES, **SETTINGS))

route(), deadline(), load()
""",
    "futures of a service": """
def result():
    service, texts = RoutingService(Router(ROUTES, **SETTINGS)), iter(["a question"])
    again_and_again(lambda: service.submit(next(texts, LONG)).result())

def warm():
    service, texts = RoutingService(Router(ROUTES, **SETTINGS)), iter(["a question"])
    again_and_again(lambda: service.warm(next(texts, LONG)).result())

def loop():
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    router = AsyncRouter.over(RoutingService(Router(ROUTES, **SETTINGS)))
    async def ask(text):
        return await router.route(text)
    asyncio.run_coroutine_threadsafe(ask("a question"), loop).result()
    return router, [asyncio.run_coroutine_threadsafe(ask(LONG), loop) for _ in range(3)]

result(), warm()
kept = loop()
""",
    "callbacks, and one that never ends": """
services = [RoutingService(Router(ROUTES, **SETTINGS)) for _ in range(2)]
services[0].submit("a question").result()
for _ in range(5):
    services[0].submit(LONG).add_done_callback(lambda future: future.result())
began = threading.Event()
services[1].submit("a question").add_done_callback(lambda future: (began.set(), threading.Event().wait()))
began.wait()
""",
    "nothing, and nothing was closed": """
router = Router(ROUTES, **SETTINGS)
service = RoutingService(Router(ROUTES, **SETTINGS))
service.submit("a question").result()
opened = asyncio.run(AsyncRouter.open(ROUTES, **SETTINGS))
""",
}

_WAITING = """
service = RoutingService(Router(ROUTES, **SETTINGS))
texts = iter(["a question"])
again_and_again(lambda: service.submit(next(texts, LONG)).result())
"""


def run(script: str, model: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    arguments = [sys.executable, "-W", "error", "-c", _BEGINNING + script, str(model)]
    # Far less than it takes to decide everything that waits.
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("engine", ["llama.cpp", "ik"])
@pytest.mark.parametrize("what", _DAEMONS)
def test_nothing_is_printed_of_daemon_threads(
    random_model: Path, what: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a thread that the program leaves behind heard of an error, and the interpreter printed it."""
    monkeypatch.setenv("TEST_ENGINE", engine)
    assert run(_DAEMONS[what] + "\nprint('fine')\nsys.exit(3)\n", random_model) == (3, "fine\n", "")


def test_the_end_waits_for_a_model_that_is_being_made(random_model: Path) -> None:
    """Would break if llama.cpp's tables were destroyed under a thread that reads them. Nothing is begun after the end."""
    script = """
import time
from archroute_edge.engine import _backend as backend

def make(first, second):
    with backend.making():
        began.set()
        time.sleep(0.5)
        print(first, flush=True)
    with backend.making():
        print(second, flush=True)

began = threading.Event()
threading.Thread(target=make, args=("made", "made after the end"), daemon=True).start()
began.wait()
"""
    assert run(script, random_model) == (0, "made\n", "")


def test_a_cascades_threads(random_encoder: Path, random_model: Path) -> None:
    """A cascade loads its second model in a thread of its own."""
    script = """
router = Router(ROUTES, switch_over=1.0, **SETTINGS)
again_and_again(lambda: router.route("a question", deadline=0.01))
"""
    assert run(script, f"{random_encoder}+{random_model}") == (0, "", "")


@pytest.mark.parametrize(
    ("ending", "exit_code", "last_line"),
    [("raise ValueError('mine')", 1, "ValueError: mine"), ("os._exit(5)", 5, "")],
)
def test_other_ways_to_end(random_model: Path, ending: str, exit_code: int, last_line: str) -> None:
    code, _, said = run(_WAITING + ending, random_model)
    assert (code, *said.splitlines()[-1:]) == (exit_code, *([last_line] if last_line else []))
    assert "archroute" not in said


def test_what_is_called_at_exit_waits_for_nothing(random_model: Path) -> None:
    """Would break if a function that was registered before the service waited for what is not decided any more."""
    script = """
@atexit.register
def late():
    for do in (waiting[-1].result, waiting[-1].exception, lambda: service.submit("a question"), service.warm,
               lambda: router.route("a question"), service.close):
        try:
            print(type(do()).__name__)
        except Exception as exc:
            print(type(exc).__name__)

router = Router(ROUTES, **SETTINGS)
service = RoutingService(Router(ROUTES, **SETTINGS))
waiting = [service.submit(LONG) for _ in range(5)]
"""
    code, said, errors = run(script, random_model)
    assert (code, errors) == (0, "")
    assert said.split() == ["ServiceClosedError"] * 4 + ["DecisionCancelledError", "NoneType"]


def test_a_daemon_thread_lets_go_of_what_it_holds(random_model: Path) -> None:
    """Would break if such a thread were kept waiting for ever: whoever needs its lock at exit would hang."""
    script = """
lock = threading.Lock()

@atexit.register
def late():
    with lock:
        print("done")

router = Router(ROUTES, **SETTINGS)
held = threading.Event()

def hold():
    with lock:
        held.set()
        while True:
            router.route(LONG)

threading.Thread(target=hold, daemon=True).start()
held.wait()
"""
    assert run(script, random_model) == (0, "done\n", "")
