"""``python -m tools.convert``."""

from __future__ import annotations

from tools.convert.cli import main

if __name__ == "__main__":
    main()
