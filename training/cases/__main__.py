"""``python -m training.cases``."""

from __future__ import annotations

from training.cases.cli import main

if __name__ == "__main__":
    main()
