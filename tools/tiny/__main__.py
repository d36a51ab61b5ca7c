"""`python -m tools.tiny`: train, judge and package the bundled model."""

from __future__ import annotations

from tools.tiny.commands import main

main()
