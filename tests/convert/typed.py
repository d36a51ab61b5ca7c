"""Running ``python -m tools.convert`` in this process."""

from __future__ import annotations

import sys

import pytest

from tools.convert.cli import main


class Typed:
    """Runs the command line with given words; gives the exit status, and what came out on stdout and stderr."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["convert", *map(str, words)])
        status = 0
        try:
            main()
        except SystemExit as exc:
            status = int(exc.code or 0)
        captured = self.capsys.readouterr()
        return status, captured.out, captured.err
