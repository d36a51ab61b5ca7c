"""`python -m training.mini`: fine-tune, judge and package the bundled encoder."""

from __future__ import annotations

from training.mini.commands import main

main()
