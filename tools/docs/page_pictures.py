"""The pictures of the server's page in docs/, light and dark: made-up traffic, and a message that was tried.

``python -m tools.docs page`` makes them; it needs Chromium, and Pillow, which matplotlib brings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from PIL import Image

from tools.docs.browser import Browser
from tools.docs.page_server import PageServer

PICTURES: Final = {"page.png": False, "page_dark.png": True}
MESSAGE: Final = "write to our hotel in Lisbon: we arrive a day late"

_WIDTH, _HEIGHT = 1280, 1180
_COUNT: Final = 1284
_TRIES: Final = 20
_QUIET_MS: Final = 12


def make_pictures(folder: Path) -> list[Path]:
    """Write both pictures into ``folder``."""
    return [_picture(folder / name, dark=dark) for name, dark in PICTURES.items()]


def _picture(path: Path, *, dark: bool) -> Path:
    with PageServer(forward=True) as server, Browser(_WIDTH, _HEIGHT, dark=dark, density=1.5, reduced_motion=True) as page:
        page.open(f"{server.address}/")
        page.wait_for("document.getElementById('state').className === 'live'")
        # Until other work of the machine no longer shows in the time.
        for _ in range(_TRIES):
            page.run("document.getElementById('answer').hidden = true; document.getElementById('message').select()")
            page.write(MESSAGE)
            page.press("Enter")
            page.wait_for("!document.getElementById('answer').hidden")
            said = page.run("document.querySelector('#chosen .note').textContent")
            if float(said.rpartition(" in ")[2].removesuffix("\u00a0ms")) < _QUIET_MS:
                break
        page.run("document.activeElement.blur()")
        before = server.app.recent.look().number
        server.make_traffic(_COUNT)
        requests = f"{before + _COUNT:,}"
        page.wait_for(f"document.querySelector('#figures dd').textContent === '{requests}'")
        page.picture(path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(256).save(path, optimize=True)
    return path
