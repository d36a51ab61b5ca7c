"""The pictures in docs/ can be made again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageStat


def brightness(path: Path) -> float:
    """The mean over a picture, 0 to 255."""
    with Image.open(path) as picture:
        return ImageStat.Stat(picture.convert("L")).mean[0]


def size(path: Path) -> tuple[int, int]:
    """Width and height."""
    with Image.open(path) as picture:
        width, height = picture.size
        return width, height


def test_the_pictures_of_the_window(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    # In a process of its own: Xlib ends the one whose screen is gone.
    subprocess.run([sys.executable, "-m", "tools.docs", "pictures", "-o", str(folder)], check=True, timeout=100)
    made = {path.name: path for path in folder.iterdir()}
    shipped = {path.name: path for path in (Path(__file__).parents[2] / "docs").glob("typing_app*.png")}
    assert {name: size(path) for name, path in made.items()} == {name: size(path) for name, path in shipped.items()}
    for pictures in (made, shipped):
        assert brightness(pictures["typing_app_dark.png"]) < 80 < 180 < brightness(pictures["typing_app.png"])
