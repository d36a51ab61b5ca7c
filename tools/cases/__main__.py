"""``python -m tools.cases``."""

from __future__ import annotations

from tools.cases.cli import main

if __name__ == "__main__":
    main()
