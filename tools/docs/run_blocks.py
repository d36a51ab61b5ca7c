"""Run blocks of Python as one program: ``run_blocks.py PAGE CODE ...``; ``await`` may stand outside functions."""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
from typing import Any


def main(page: str, *blocks: str) -> None:
    """Run each block with the names that the ones before it defined."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        found = eval(compile(block, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if inspect.iscoroutine(found):
            asyncio.run(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
