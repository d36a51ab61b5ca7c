"""Runs in LiteLLM's own environment: routes conversations by an auto router and prints each one's tier, or the error, as JSON.

On stdin: the folder of a configuration and of the module that its classifier is in, the model list, and the conversations.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import litellm
from litellm.proxy.types_utils.utils import get_instance_fn

_ASKED = json.load(sys.stdin)


def _with_plugin(deployment: dict[str, Any]) -> dict[str, Any]:
    """The deployment with the classifier that its configuration names, as the proxy does it."""
    config = deployment["litellm_params"].get("complexity_router_config", {})
    if "classifier_plugin" in config:
        config["classifier_plugin"] = get_instance_fn(config["classifier_plugin"], f"{_ASKED['folder']}/litellm.yaml")
    return deployment


async def _answers() -> list[dict[str, Any]]:
    router = litellm.Router(model_list=[_with_plugin(each) for each in _ASKED["model_list"]], num_retries=0)
    found = []
    for messages in _ASKED["conversations"]:
        begun = time.perf_counter()
        answer = await router.acompletion(model="auto", messages=messages)
        seconds = time.perf_counter() - begun
        found.append({"content": answer.choices[0].message.content, "seconds": seconds})
    return found


print(json.dumps(asyncio.run(_answers())))
