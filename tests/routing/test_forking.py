"""Forked processes: routers of the parent raise at once, and new ones work, whatever the parent did at the moment of the fork.

Each script forks in a process of its own: pytest's has threads, and a fork of it would be a test of pytest.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from archroute_edge.engine import LoadedModel
from archroute_edge.engine import _backend as backend
from archroute_edge.engine._backend import usable_threads
from archroute_edge.errors import EngineError, ForkedProcessError, ServiceClosedError
from tests.gate import PATIENCE_S

pytestmark = pytest.mark.usefixtures("tried_kernels")

# Two threads everywhere: the pool that OpenMP makes for them is what does not survive.
_BEGINNING = """\
import os, sys, threading, time
from archroute_edge import AsyncRouter, Route, Router, RoutingService
from archroute_edge.errors import EngineError

ROUTES = [Route("bug_fixing", "fixing errors in code"), Route("poems", "writing poems")]
SETTINGS = {"model": sys.argv[1], "prefix_cache": False, "threads": 2, "engine": os.environ["TEST_ENGINE"]}

def in_child(do):
    sys.stdout.flush()
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        return
    do()
    sys.stdout.flush()
    os._exit(0)

def attempt(do):
    try:
        print(do())
    except EngineError as exc:
        print(type(exc).__name__)
"""


def run(script: str, model: str | Path, *, time_limit: float = 2 * PATIENCE_S) -> list[str]:
    """The lines that ``script`` prints, of both processes."""
    # Python 3.12 warns of forks where there are threads, which is what is tried here.
    arguments = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _BEGINNING + script, str(model)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=time_limit)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ENGINE", "auto")


@pytest.fixture(params=["generative", "ik", "cascade"])
def model(request: pytest.FixtureRequest, random_model: Path, random_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A language model alone, in either engine, and below an encoder, which decides first."""
    if request.param == "ik":
        monkeypatch.setenv("TEST_ENGINE", "ik")
    return f"{random_encoder}+{random_model}" if request.param == "cascade" else str(random_model)


def test_a_router_of_the_parent_raises_at_once(model: str) -> None:
    """Would break if the child waited for OpenMP's threads, for a lock of the parent's threads, or for its worker."""
    lines = run(
        """
import asyncio
router = Router(ROUTES, **SETTINGS)
service = RoutingService(Router(ROUTES, **SETTINGS))
router.route("fix it"), service.submit("fix it").result()
unanswered = service.submit("fix it " * 500)

def ask():
    attempt(lambda: router.route("fix it"))
    attempt(lambda: router.route("fix it", deadline=0.2))
    attempt(lambda: router.route("fix it", routes=[Route("a"), Route("b")], deadline=0.2))
    attempt(lambda: router.route_many(["fix it", "a poem"]))
    attempt(router.warm)
    attempt(lambda: router.with_config(router.config))
    attempt(lambda: router.decider)
    attempt(lambda: service.submit("fix it").result())
    attempt(lambda: service.submit("fix it", deadline=0.2).result())
    attempt(lambda: service.submit_many(["fix it", "a poem"]).result())
    attempt(service.warm)
    attempt(lambda: service.replace(router))
    attempt(lambda: asyncio.run(AsyncRouter.over(service).route("fix it", deadline=0.2)))
    print(service.is_closed, service.stats().waiting)
    service.close()
    router.close()

in_child(ask)
print(router.route("fix it").reason, service.submit("fix it").result().reason)
service.close()
""",
        model,
    )
    assert lines == ["ForkedProcessError"] * 13 + ["True 0", "None None"]


def test_a_router_that_is_made_in_the_child_decides_as_in_the_parent(model: str) -> None:
    """Would break if the thread that forked, which has lost the others of its pool, computed with several."""
    lines = run(
        """
def ask():
    with Router(ROUTES, **SETTINGS) as router:
        print(router.route("fix it").route, router.route("a poem", deadline=20).route)
    with RoutingService(Router(ROUTES, **SETTINGS)) as service:
        print(service.submit("fix it").result().route, service.submit("a poem", deadline=20).result().route)

router = Router(ROUTES, **SETTINGS)
ask()
# What an unclosed router leaves behind, and a child of the child.
in_child(lambda: (ask(), in_child(ask)))
""",
        model,
    )
    assert len(lines) == 6
    assert lines == lines[:2] * 3


def test_a_future_of_the_parent_is_not_waited_for(random_model: Path) -> None:
    """Would break if whoever holds a future waited in the child for a worker that is not there."""
    lines = run(
        """
service = RoutingService(Router(ROUTES, **SETTINGS))
finished = service.submit("fix it")
finished.result()
stuck = threading.Event()
finished.add_done_callback(lambda _future: None)
blocker = service.submit("a poem")
blocker.add_done_callback(lambda _future: stuck.wait())
waiting = service.submit("fix it")

def ask():
    attempt(lambda: finished.result().reason)
    attempt(waiting.result)
    attempt(waiting.exception)
    print(waiting.cancel())

in_child(ask)
stuck.set()
print(waiting.result().reason)
service.close()
""",
        random_model,
    )
    assert lines == ["None", "ForkedProcessError", "ForkedProcessError", "True", "None"]


def test_locks_that_the_parents_threads_held(random_model: Path) -> None:
    """Would break if anything waited in the child for a lock that a thread had when its process was forked."""
    lines = run(
        """
from archroute_edge.engine import _engine_choice, _kernel_trial
service = RoutingService(Router(ROUTES, **SETTINGS))
router = Router(ROUTES, **SETTINGS)
locks = [_kernel_trial._lock, _engine_choice._lock, router.scheduler._lock, service.router.scheduler._lock]
locks.append(service._account.lock)
held, done = threading.Event(), threading.Event()

def hold():
    for lock in locks:
        lock.__enter__()
    held.set()
    done.wait()
    for lock in locks:
        lock.__exit__(None, None, None)

thread = threading.Thread(target=hold)
thread.start()
held.wait()

def ask():
    attempt(lambda: router.route("fix it", deadline=0.2))
    attempt(lambda: router.with_config(router.config))
    attempt(lambda: service.submit("fix it").result())
    print(service.stats().running)
    service.close()
    router.close()
    with Router(ROUTES, **SETTINGS) as another:
        print(another.route("fix it").reason)

in_child(ask)
done.set()
thread.join()
service.close()
""",
        random_model,
    )
    assert lines == ["ForkedProcessError"] * 3 + ["0", "None"]


def test_a_pool_of_forked_processes(random_encoder: Path) -> None:
    """As with Celery's workers, and web servers that load the program before they fork."""
    lines = run(
        """
import multiprocessing
router = Router(ROUTES, **SETTINGS)
expected = router.route("fix it").route

def begin():
    global own
    own = Router(ROUTES, **SETTINGS)

def ask(message):
    try:
        return router.route(message).route
    except EngineError as exc:
        return type(exc).__name__, own.route(message).route == expected

with multiprocessing.get_context("fork").Pool(2, begin) as pool:
    print(*pool.map(ask, ["fix it"] * 4))
    pool.close()
    pool.join()
""",
        random_encoder,
    )
    assert lines == [" ".join(["('ForkedProcessError', True)"] * 4)]


def test_a_child_that_ends_as_a_program_does(random_model: Path) -> None:
    """Would break if finalizers freed what is another process's, or waited at exit for threads that are not there."""
    lines = run(
        """
router = Router(ROUTES, **SETTINGS)
service = RoutingService(router.with_config(router.config))
service.submit("fix it")
child = os.fork()
if not child:
    del router
    print("child")
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
print(service.submit("fix it").result().reason)
""",
        random_model,
    )
    assert lines == ["child", "None"]


def test_the_error_says_what_to_do(random_encoder: Path) -> None:
    (line,) = run(
        """
router = Router(ROUTES, **SETTINGS)
def ask():
    try:
        router.route("fix it")
    except EngineError as exc:
        print(str(exc).replace(str(os.getpid()), "CHILD").replace(str(os.getppid()), "PARENT"))
in_child(ask)
""",
        random_encoder,
    )
    assert line == (
        "the router was made in process PARENT, and this is process CHILD, which was forked from it; "
        "make the router after the fork, or start processes with spawn"
    )
    assert issubclass(ForkedProcessError, EngineError)
    assert issubclass(ForkedProcessError, ServiceClosedError)


def test_a_gpu_cannot_be_used_after_a_fork(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if CUDA were called in a forked process, where llama.cpp ends the process."""
    used: list[str] = []
    build = backend.build()
    monkeypatch.setattr(backend, "build", lambda: type(build)(**{**vars(build), "gpu_offload": True}))
    monkeypatch.setattr(backend, "was_used_before_fork", lambda: True)
    monkeypatch.setattr(backend, "initialise", lambda: used.append("initialised"))
    with pytest.raises(ForkedProcessError, match="spawn"):
        LoadedModel(random_model)
    assert not used


def test_a_process_that_was_not_forked_uses_all_threads() -> None:
    assert usable_threads(5) == 5
