"""LiteLLM's proxy as a process of its own, on a free port of this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from tools.release.environments import plain_environment

_LONGEST_START_S = 180.0
# It does not start without one.
_KEY = "sk-of-a-proxy-on-loopback-that-asks-no-provider"


class LiteLLMProxy:
    """The proxy with one configuration; a context manager. What it prints is shown if it does not start.

    Args:
        environment: the folder of the environment that LiteLLM is installed in.
        config: its configuration.
    """

    def __init__(self, environment: Path, config: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._address = f"http://127.0.0.1:{port}"
        self._log = config.with_suffix(".log")
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [environment / "bin" / "litellm", "--config", config, "--host", "127.0.0.1", "--port", str(port)],
                env={**plain_environment(), "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": _KEY},
                stdout=log,
                stderr=log,
            )

    def ask(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        """The reply to a chat with the model ``auto``: its text, why the tier was chosen, and how long it took."""
        body = json.dumps({"model": "auto", "messages": messages}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {_KEY}"}
        request = urllib.request.Request(f"{self._address}/v1/chat/completions", body, headers)
        begun = time.perf_counter()
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer = json.load(reply)
            cause = reply.headers["x-litellm-complexity-router-cause"]
            tier = reply.headers["x-litellm-complexity-router-tier"]
        return {
            "content": answer["choices"][0]["message"]["content"],
            "seconds": time.perf_counter() - begun,
            "cause": cause,
            "tier": tier,
        }

    def _wait(self) -> None:
        give_up_at = time.monotonic() + _LONGEST_START_S
        while True:
            try:
                with urllib.request.urlopen(f"{self._address}/health/liveliness", timeout=5):
                    return
            except (urllib.error.URLError, OSError) as exc:
                if self._process.poll() is not None or time.monotonic() > give_up_at:
                    raise RuntimeError(f"LiteLLM's proxy did not start:\n{self._log.read_text(encoding='utf-8')}") from exc
                time.sleep(0.2)

    def __enter__(self) -> LiteLLMProxy:
        try:
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
