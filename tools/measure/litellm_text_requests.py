"""Runs in LiteLLM's own environment: prints the text by which its auto router asks about each conversation, as JSON.

The conversations come on stdin. The classifier is a stub in this process.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import litellm

_ANSWER = {"type": "choice", "choice": "other", "confidence": 1.0, "probabilities": {"other": 1.0}}
_REPLY = json.dumps({"model": "stub", "answers": {"tier": _ANSWER}, "usage": {}}).encode()


class _Classifier(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    texts: list[str] = []  # noqa: RUF012 - of all connections

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.texts.append(json.loads(body)["state"])
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(_REPLY)))
        self.end_headers()
        self.wfile.write(_REPLY)

    def log_message(self, *_arguments: object) -> None:
        """Nothing: standard output is the result's."""


def _models(address: str) -> list[dict[str, Any]]:
    config = {
        "classifier_type": "oss_classifier",
        "opensource_classifier_config": {"provider": "laya", "model": "english", "api_base": address},
        "tier_definitions": [{"name": "some", "description": "Something"}, {"name": "other", "description": "Anything else"}],
        "tiers": {"some": "any", "other": "any"},
        "fallback_tier": "some",
    }
    auto = {"model": "auto_router/complexity_router", "complexity_router_config": config}
    any_model = {"model": "openai/any", "api_key": "none", "mock_response": "done"}
    return [{"model_name": "auto", "litellm_params": auto}, {"model_name": "any", "litellm_params": any_model}]


async def _texts(address: str, conversations: list[Any]) -> list[str]:
    router = litellm.Router(model_list=_models(address), num_retries=0)
    found = []
    for messages in conversations:
        _Classifier.texts.clear()
        await router.acompletion(model="auto", messages=messages)
        (text,) = _Classifier.texts
        found.append(text)
    return found


_server = ThreadingHTTPServer(("127.0.0.1", 0), _Classifier)
threading.Thread(target=_server.serve_forever, daemon=True).start()
print(json.dumps(asyncio.run(_texts(f"http://127.0.0.1:{_server.server_port}", json.load(sys.stdin)))))
