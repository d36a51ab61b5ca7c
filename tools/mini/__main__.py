"""`python -m tools.mini`: fine-tune, judge and package the bundled encoder."""

from __future__ import annotations

from tools.mini.commands import main

main()
