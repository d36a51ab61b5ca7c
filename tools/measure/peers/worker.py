"""The process that a peer runs in: JSON lines of calls on standard input, JSON lines of results on standard output."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, is_dataclass
from typing import Any

from tools.measure.peers.question import Question


def load(kind: str, settings: dict[str, Any]) -> Any:
    """The peer of that kind. Each is imported in its own process alone."""
    if kind == "archroute":
        from tools.measure.peers.ours import ArchRoute

        return ArchRoute(**settings)
    if kind == "llama-cpp-python":
        from tools.measure.peers.llama_cpp_python import LlamaCppPython

        return LlamaCppPython(**settings)
    if kind == "ik-llama-cpp-python":
        from tools.measure.peers.ik_llama_cpp_python import IkLlamaCppPython

        return IkLlamaCppPython(**settings)
    from tools.measure.peers.quickstart import Quickstart

    return Quickstart(**settings)


def main() -> None:
    """``worker KIND SETTINGS``: load the peer, say so, and answer calls until there are no more, or one fails."""
    # What libraries print goes to standard error, not between the results.
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**line: Any) -> None:
        print(json.dumps(line), file=results, flush=True)

    try:
        peer = load(sys.argv[1], json.loads(sys.argv[2]))
        tell(result="loaded")
        for line in sys.stdin:
            method, arguments = json.loads(line)
            if method == "decide":
                arguments = {"question": Question(**arguments["question"])}
            result = getattr(peer, method)(**arguments)
            tell(result=asdict(result) if is_dataclass(result) and not isinstance(result, type) else result)
    except ModuleNotFoundError as exc:
        tell(error=f"{exc}; install what the comparison needs: pip install '.[peers]'")
    except Exception as exc:  # noqa: BLE001
        # Whatever it is, the process that asked puts it into words.
        tell(error=" ".join(str(exc).split()) or type(exc).__name__)


if __name__ == "__main__":
    main()
