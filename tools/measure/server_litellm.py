"""LiteLLM against a server: plain, streaming and async, in every prompt format, beside the router's own answers.

    python -m venv build/litellm && build/litellm/bin/pip install litellm
    python -m tools.measure.server_litellm build/litellm/bin/python

LiteLLM needs other versions of shared packages than this project, so it has an environment of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click

from archroute_edge.cli.options import read_config
from archroute_edge.conversation import Turn
from archroute_edge.prompts import PROMPT_FORMATS
from archroute_edge.routing import Router
from tools.measure.server_process import ServerProcess

_MESSAGES = ("my test fails with an IndexError", "write a function that reverses a list", "thanks, that is all for today")


@click.command()
@click.argument("python", type=click.Path(exists=True))
@click.option("--model", default="tiny", show_default=True, help="As for archroute serve.")
def main(python: str, model: str) -> None:
    """Compare the replies that LiteLLM gets with the router's routes; exit code 1 if they differ."""
    config = read_config(None).config
    prompts, expected = [], []
    with Router(config=config, model=model) as router:
        for message in _MESSAGES:
            route = router.route(message).route
            for each in PROMPT_FORMATS.values():
                prompts.append(each.render(config.table, [Turn("user", message)]))
                expected.append(each.reply_with(route))
    with ServerProcess("--model", model) as server:
        done = subprocess.run(
            [python, str(Path(__file__).with_name("litellm_requests.py"))],
            input=json.dumps([server.address, prompts]),
            stdout=subprocess.PIPE,
            # Prices, which it would fetch from elsewhere.
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            encoding="utf-8",
            check=True,
        )
    # LiteLLM may print hints of its own before.
    found = json.loads(done.stdout.splitlines()[-1])
    same = {way: found[way] == expected for way in ("plain", "stream", "async")}
    print(json.dumps({"prompts": len(prompts), "same": same, "ordinary_chat": found["ordinary_chat"]}, indent=2))
    sys.exit(0 if all(same.values()) else 1)


if __name__ == "__main__":
    main()
