"""archroute-edge as the classifier of LiteLLM's auto router, in LiteLLM's Router and proxy, as docs/clients.md configures it.

    python -m tools.measure.litellm_environment build/litellm
    python -m tools.measure.litellm_classifiers build/litellm

``make test-litellm`` does both. The models behind the tiers answer with the tier's name, and no provider is asked.
"""

from __future__ import annotations

import copy
import json
import re
import statistics
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import click
import yaml

from archroute_edge.routes import Route
from archroute_edge.routing import Router
from tools.measure.litellm_proxy import LiteLLMProxy
from tools.measure.server_process import ServerProcess
from tools.release.environments import plain_environment

_PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
_SECTION = _PAGE.read_text(encoding="utf-8").partition("## LiteLLM\n")[2].partition("\n## ")[0]
_KEY = "a-key-of-the-server"
_FALLBACK = "other"
_CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "my python function raises an IndexError, please fix this bug"}],
    [{"role": "user", "content": "translate this sentence into French: the meeting is on Monday"}],
    [{"role": "user", "content": "thanks, that is all for today"}],
    [
        {"role": "system", "content": "Answer in one sentence."},
        {"role": "user", "content": "what is the capital of Peru?"},
        {"role": "assistant", "content": "Lima."},
        {"role": "user", "content": [{"type": "text", "text": "translate 'good morning' into Greek"}]},
    ],
]


def block(kind: str, beginning: str) -> str:
    """The one block of the page's section on LiteLLM that begins so."""
    blocks = re.findall(rf"```{kind}\n(.*?)```", _SECTION, re.DOTALL)
    (found,) = (each for each in blocks if each.lstrip().startswith(beginning))
    return str(found)


def model_list(address: str | None) -> list[dict[str, Any]]:
    """The page's, with the server's address (None: not named there) and models that answer with the names of their tiers."""
    auto = copy.deepcopy(yaml.safe_load(block("yaml", "# litellm.yaml"))["model_list"][0])
    config = auto["litellm_params"]["complexity_router_config"]
    if address is None:
        del config["opensource_classifier_config"]["api_base"]
    else:
        config["opensource_classifier_config"]["api_base"] = address
    config["tiers"] = {tier: tier for tier in config["tiers"]}
    return [
        auto,
        *(
            {"model_name": tier, "litellm_params": {"model": f"openai/{tier}", "api_key": "none", "mock_response": tier}}
            for tier in config["tiers"]
        ),
    ]


def with_plugin(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with the lines that the page replaces."""
    changed = copy.deepcopy(models)
    config = changed[0]["litellm_params"]["complexity_router_config"]
    del config["opensource_classifier_config"]
    config.update(yaml.safe_load(textwrap.dedent(block("yaml", "classifier_type: custom"))))
    return changed


class LiteLLM:
    """Its environment, and a folder for its configuration and the classifier's module."""

    def __init__(self, environment: Path, folder: Path) -> None:
        self._environment = environment
        self._folder = folder
        module = block("python", "# archroute_classifier.py")
        (folder / "archroute_classifier.py").write_text(module, encoding="utf-8")

    def in_router(self, models: list[dict[str, Any]], **variables: str) -> list[dict[str, Any]]:
        """What LiteLLM's Router answers, and after how long."""
        asked = {"folder": str(self._folder), "model_list": models, "conversations": _CONVERSATIONS}
        done = subprocess.run(
            [self._environment / "bin" / "python", Path(__file__).with_name("litellm_classifier_requests.py")],
            input=json.dumps(asked),
            stdout=subprocess.PIPE,
            env={**plain_environment(), "LITELLM_LOCAL_MODEL_COST_MAP": "True", **variables},
            encoding="utf-8",
            check=True,
        )
        # LiteLLM may print hints of its own before.
        found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return found

    def in_proxy(self, models: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What LiteLLM's proxy answers, with the cause that its headers name."""
        path = self._folder / "litellm.yaml"
        path.write_text(yaml.safe_dump({"model_list": models}), encoding="utf-8")
        with LiteLLMProxy(self._environment, path) as proxy:
            return [proxy.ask(messages) for messages in _CONVERSATIONS]


def wanted(models: list[dict[str, Any]]) -> list[str]:
    """The routes that the router itself gives the conversations."""
    tiers = models[0]["litellm_params"]["complexity_router_config"]["tier_definitions"]
    routes = [Route(tier["name"], tier["description"]) for tier in tiers if tier["name"] != "other"]
    with Router(routes, model="mini") as router:
        return [router.route(messages).route for messages in _CONVERSATIONS]


@click.command()
@click.argument("environment", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(environment: Path) -> None:
    """Compare the tiers that LiteLLM chooses with the router's routes; exit code 1 if they differ."""
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        litellm = LiteLLM(environment, Path(folder))
        with ServerProcess("--model", "mini") as server:
            models = model_list(server.address)
            found["by configuration, Router"] = litellm.in_router(models)
            found["by configuration, proxy"] = litellm.in_proxy(models)
        found["server away, Router"] = litellm.in_router(models)
        with ServerProcess("--model", "mini", "--api-key", _KEY) as server:
            variables = {"LAYA_API_BASE": server.address, "LAYA_API_KEY": _KEY}
            found["by configuration, with a key, Router"] = litellm.in_router(model_list(None), **variables)
        found["LiteLLMClassifier, Router"] = litellm.in_router(with_plugin(models))
        found["LiteLLMClassifier, proxy"] = litellm.in_proxy(with_plugin(models))
    routes = wanted(models)
    expected = {way: [_FALLBACK] * len(routes) if "away" in way else routes for way in found}
    tiers = {way: [str(each["content"]) for each in answers] for way, answers in found.items()}
    shown = {
        way: {
            "as the router": tiers[way] == expected[way],
            "tiers": tiers[way],
            "median ms": round(1e3 * statistics.median(each["seconds"] for each in answers), 1),
            **({"causes": sorted({str(each["cause"]) for each in answers})} if "proxy" in way else {}),
        }
        for way, answers in found.items()
    }
    print(json.dumps(shown, indent=2))
    sys.exit(0 if tiers == expected else 1)


if __name__ == "__main__":
    main()
