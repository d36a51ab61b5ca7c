"""`python -m training.tiny`: train, judge and package the bundled model."""

from __future__ import annotations

from training.tiny.commands import main

main()
