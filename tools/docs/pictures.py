"""The pictures of the example app in docs/, light and dark: the window on a virtual screen, with a message typed into it.

``python -m tools.docs pictures`` makes them; it needs Xvfb, Pillow (which matplotlib brings) and a Python with
tkinter.
"""

from __future__ import annotations

import os
import subprocess
import time
import tkinter as tk
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Final

from PIL import ImageGrab

from archroute_edge import Router, RoutingService, load_config
from examples.typing_app import DARK, LIGHT, Palette, TypingApp, style

PICTURES: Final = {"typing_app.png": LIGHT, "typing_app_dark.png": DARK}
MESSAGE: Final = "write to our hotel in Lisbon: we arrive a day late"

_WIDTH, _HEIGHT = 1000, 380
_LONGEST_S: Final = 30


def make_pictures(folder: Path) -> dict[Path, str]:
    """Write both pictures into ``folder``; returns each one's status line, which has the time."""
    with _virtual_screen() as display:
        return {folder / name: _picture(display, folder / name, palette) for name, palette in PICTURES.items()}


@contextmanager
def _virtual_screen() -> Iterator[str]:
    """A screen of twice the usual density, so that the picture is sharp where screens are."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{2 * _WIDTH}x{2 * _HEIGHT}x24", "-dpi", "192"]
    server = subprocess.Popen([*command, "-nolisten", "tcp"], pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as said:
            yield f":{said.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


def _picture(display: str, path: Path, palette: Palette) -> str:
    def open_service() -> RoutingService:
        with resources.as_file(resources.files("archroute_edge") / "data" / "demo_tasks.yaml") as routes:
            return RoutingService(Router(config=load_config(routes), model="mini", prefix_cache=False))

    root = tk.Tk(screenName=display)
    root.overrideredirect(True)
    style(root, palette)
    root.geometry(f"{root.winfo_screenwidth()}x{root.winfo_screenheight()}+0+0")
    app = TypingApp(root, open_service, palette)
    app.pack(fill="both", expand=True)
    # Something else is routed before, so that the time shown is not that of a first decision.
    for text in ("hello", "", MESSAGE):
        app.entry.replace("1.0", "end", text)
        _wait(root, partial(_shows_a_route, app, bool(text)))
    app.entry.configure(insertofftime=0)
    app.entry.focus_force()
    root.update()
    ImageGrab.grab(xdisplay=display).quantize(128).save(path, optimize=True)
    said = str(app.status["text"])
    app.close()
    return said


def _shows_a_route(app: TypingApp, wanted: bool) -> bool:
    return bool(app.route_name["text"]) == wanted


def _wait(root: tk.Tk, until: Callable[[], bool]) -> None:
    end = time.monotonic() + _LONGEST_S
    while not until():
        if time.monotonic() > end:
            raise TimeoutError("the window does not show a route")
        root.update()
        time.sleep(0.005)
