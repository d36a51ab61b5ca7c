"""``examples/typing_app.py`` on a virtual screen: keys go in as from a keyboard, and what the window shows is read."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import tkinter as tk
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archroute_edge import Router, RoutingConfig, RoutingService
from archroute_edge.errors import ModelFileError
from examples.typing_app import TypingApp, style

MESSAGE = "write a Python function that parses a CSV file"
_KEYSYMS = {" ": "space", "\n": "Return", ".": "period"}


class Screen:
    """The app in a window, and a user before it."""

    def __init__(self, display: str, open_service: Callable[[], RoutingService]) -> None:
        self.root = tk.Tk(screenName=display)
        self.root.title("archroute-edge")
        self.root.geometry("1000x460+20+20")
        style(self.root)
        self.app = TypingApp(self.root, open_service)
        self.app.pack(fill="both", expand=True)
        self.root.update()
        self.app.entry.focus_force()

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Let the window live until ``condition`` holds."""
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, f"waited for {what}; the window says {self.app.status['text']!r}"
            self.root.update()
            time.sleep(0.005)

    def rest(self, seconds: float) -> None:
        """Do nothing for a while."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end, "time to pass")

    def press(self, text: str) -> None:
        """Press the keys of ``text``."""
        for character in text:
            self.app.entry.event_generate("<KeyPress>", keysym=_KEYSYMS.get(character, character))
            self.root.update()

    @property
    def chosen(self) -> list[str]:
        """The routes that are marked in the table."""
        return [name for name in self.app.table.get_children() if "chosen" in self.app.table.item(name, "tags")]


@pytest.fixture
def open_service(bundled_model: Path, card_config: RoutingConfig) -> Callable[[], RoutingService]:
    return lambda: RoutingService(Router(config=card_config, model=bundled_model, threads=1, prefix_cache=False))


@pytest.fixture
def screen(display: str, open_service: Callable[[], RoutingService]) -> Iterator[Screen]:
    screen = Screen(display, open_service)
    screen.until(lambda: screen.app.service is not None, "the model")
    yield screen
    screen.app.close()


def test_the_route_is_shown_after_a_pause_in_typing(screen: Screen, card_config: RoutingConfig) -> None:
    app = screen.app
    assert app.table.get_children() == (*card_config.table.names, "other")
    screen.press(MESSAGE)
    screen.until(lambda: app.route_name["text"], "a route")
    assert app.route_name["text"] == "code_generation"
    assert screen.chosen == ["code_generation"]
    assert 0.5 < app.confidence["value"] <= 1
    assert app.detail["text"] == f"{app.confidence['value']:.0%} sure, so ask {card_config.table['code_generation'].models[0]}"
    scores = [float(app.table.set(name, "score").rstrip("%")) for name in app.table.get_children()]
    assert sum(scores) == pytest.approx(100, abs=3)
    assert " reused, " in app.status["text"]


def test_enter_routes_at_once_what_the_pauses_have_warmed(screen: Screen) -> None:
    """The point of warming: at Enter little is left to evaluate."""
    service = screen.app.service
    assert service is not None
    screen.press(MESSAGE)
    screen.until(lambda: service.stats().warmed >= 2, "the warm-up of a pause")
    assert screen.app.route_name["text"] == ""
    screen.press(" quickly\n")
    screen.until(lambda: screen.app.route_name["text"], "a route")
    reused, evaluated = (int(part.split()[0]) for part in screen.app.status["text"].partition(" ms, ")[2].split(", "))
    assert reused > evaluated
    assert "\n" not in screen.app.entry.get("1.0", "end-1c")


def test_enter_on_what_a_pause_has_decided_evaluates_nothing(screen: Screen) -> None:
    """At once after the pause, or while it is still being decided."""
    app = screen.app
    for message in ("fix my code", " please"):
        app.route_name["text"] = ""
        screen.press(message)
        screen.until(lambda: app.route_name["text"], "the route of a pause")
        assert app.status["text"].endswith(" 0 evaluated")
        app.route_name["text"] = ""
        screen.press("\n")
        screen.until(lambda: app.route_name["text"], "the route of Enter")
        assert app.status["text"].endswith(" 0 evaluated")


def test_the_newest_text_counts_and_an_empty_one_clears_the_window(screen: Screen) -> None:
    screen.press("fix this bug in my code.\n")
    screen.until(lambda: screen.app.route_name["text"], "a route")
    screen.app.entry.delete("1.0", "end")
    screen.until(lambda: screen.app.route_name["text"] == "", "the window to clear")
    assert screen.chosen == []
    assert screen.app.detail["text"] == ""
    screen.press("thanks that is all\n")
    screen.until(lambda: screen.app.route_name["text"], "a route")
    assert screen.chosen == [screen.app.route_name["text"]]


def test_the_window_lives_on_while_it_is_decided(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback that waited for the router would freeze it; here the router takes as long as the test likes."""
    service = screen.app.service
    assert service is not None
    held, ticks = threading.Event(), 0
    decider = service.router.decider
    decide = decider.decide_many

    def decide_late(*args: object, **settings: object) -> object:
        held.wait(30)
        return decide(*args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(decider, "decide_many", decide_late)

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        screen.app.after(10, tick)

    tick()
    screen.press("fix my code\n")
    screen.until(lambda: ticks > 20, "the window to live")
    assert screen.app.route_name["text"] == ""
    held.set()
    screen.until(lambda: screen.app.route_name["text"], "a route")


def test_what_is_wrong_with_a_model_is_said_in_the_window(display: str, tmp_path: Path) -> None:
    def fail() -> RoutingService:
        raise ModelFileError(f"{tmp_path}/x.gguf: not a GGUF file")

    screen = Screen(display, fail)
    screen.until(lambda: "not a GGUF file" in screen.app.status["text"], "the error")
    screen.press("hello\n")
    screen.rest(0.1)
    screen.app.close()


def test_the_program_ends_when_its_window_is_closed(display: str, bundled_model: Path) -> None:
    """A thread that is left over would keep the process after its window."""
    script = Path(__file__).parents[2] / "examples" / "typing_app.py"
    code = f"""
import runpy, sys, tkinter
sys.argv = ["typing_app.py", "--model", {str(bundled_model)!r}]
mainloop = tkinter.Tk.mainloop
def close_soon(root):
    root.after(1500, lambda: root.tk.call(root.protocol("WM_DELETE_WINDOW")))
    mainloop(root)
tkinter.Tk.mainloop = close_soon
runpy.run_path({str(script)!r}, run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DISPLAY": display},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
