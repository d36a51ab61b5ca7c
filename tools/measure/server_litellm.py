"""LiteLLM against a server: router prompts in every format beside the router's own answers, and requests to forward.

    python -m tools.measure.litellm_environment build/litellm
    python -m tools.measure.server_litellm build/litellm/bin/python

``make test-litellm`` does both. Plain, streaming and async each; the forwarded ones with the server as ``api_base``.

LiteLLM and its proxy bring a hundred packages, so they have an environment of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from archroute_edge.cli.options import read_config
from archroute_edge.conversation import Turn
from archroute_edge.prompts import PROMPT_FORMATS
from archroute_edge.routing import Router
from tools.measure.server_process import ServerProcess
from tools.measure.stamping_upstream import StampingUpstream

_MESSAGES = ("my test fails with an IndexError", "write a function that reverses a list", "thanks, that is all for today")
_FORWARDED = {"plain": "done", "stream": 5, "async": ["done"] * 20, "unknown model": "NotFoundError", "in its Router": "done"}


@click.command()
@click.argument("python", type=click.Path(exists=True))
@click.option("--model", default="tiny", show_default=True, help="As for archroute serve.")
def main(python: str, model: str) -> None:
    """Compare the replies that LiteLLM gets with the router's routes, and with an upstream's; exit code 1 if they differ."""
    config = read_config(None).config
    prompts, expected = [], []
    with Router(config=config, model=model) as router:
        for message in _MESSAGES:
            route = router.route(message).route
            for each in PROMPT_FORMATS.values():
                prompts.append(each.render(config.table, [Turn("user", message)]))
                expected.append(each.reply_with(route))
    with ServerProcess("--model", model) as server:
        found = _run(python, "litellm_requests.py", [server.address, prompts])
    same = {way: found[way] == expected for way in ("plain", "stream", "async")}
    with tempfile.TemporaryDirectory() as folder, StampingUpstream() as upstream:
        path = Path(folder) / "gateway.yaml"
        path.write_text(upstream.config, encoding="utf-8")
        with ServerProcess("--forward", "--config", str(path), "--model", "mini") as server:
            forwarded = _run(python, "litellm_gateway_requests.py", server.address)
    same |= {f"forwarded, {way}": forwarded[way] == reply for way, reply in _FORWARDED.items()}
    print(json.dumps({"prompts": len(prompts), "same": same, "ordinary_chat": found["ordinary_chat"]}, indent=2))
    sys.exit(0 if all(same.values()) else 1)


def _run(python: str, script: str, asked: Any) -> Any:
    done = subprocess.run(
        [python, str(Path(__file__).with_name(script))],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        # Prices, which it would fetch from elsewhere.
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        encoding="utf-8",
        check=True,
    )
    # LiteLLM may print hints of its own before.
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
