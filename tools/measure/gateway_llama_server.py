"""llama-server behind the gateway: OpenAI's package, plain, streaming and many at once, and a client that leaves.

    python -m tools.measure.gateway_llama_server $(python -m tools.measure.build_llama_tools)/llama-server [--model MODEL.gguf]

The model need not be able to say anything sensible. Prints JSON; exit code 1 if an answer differs from the one that
llama-server itself gives, or llama-server goes on for a client that has left. That is only seen with a model that is slow.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import click
import httpx
import openai

from archroute_edge.system import bundled_folder
from tools.measure.peers.llama_server import LlamaServer
from tools.measure.server_process import ServerProcess

_CONFIG = """
model_providers:
  - {model: llama/any, base_url: "%s/v1", provider_interface: openai, default: true}
routing_preferences:
  - {name: bug_fixing, description: Identifying and fixing errors or bugs in the provided code, models: [llama/any]}
"""
_MESSAGES = [{"role": "user", "content": "my function raises an IndexError in its loop, please fix it"}]
_ASKED = {"messages": _MESSAGES, "temperature": 0, "max_tokens": 24, "seed": 1, "cache_prompt": False}
_PATIENCE_S = 30.0


def _text(client: openai.OpenAI, model: str, stream: bool) -> str:
    completion = client.post(
        "/chat/completions", body={"model": model, "stream": stream, **_ASKED}, cast_to=httpx.Response, options={}
    )
    if not stream:
        return str(completion.json()["choices"][0]["message"]["content"])
    events = [line[6:] for line in completion.text.splitlines() if line.startswith("data: ") and line != "data: [DONE]"]
    deltas = [choice["delta"].get("content") or "" for event in events for choice in json.loads(event)["choices"]]
    return "".join(deltas)


async def _together(address: str, count: int) -> list[str]:
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:

        async def one() -> str:
            text = ""
            stream = await client.chat.completions.create(  # type: ignore[call-overload]
                model="auto",
                stream=True,
                extra_body={"cache_prompt": False},
                **{k: v for k, v in _ASKED.items() if k != "cache_prompt"},
            )
            async for chunk in stream:
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            return text

        return await asyncio.gather(*(one() for _ in range(count)))


def _busy(upstream: str) -> int:
    return sum(bool(slot["is_processing"]) for slot in httpx.get(f"{upstream}/slots", timeout=_PATIENCE_S).json())


def _milliseconds_to_stop(address: str, upstream: str) -> float | None:
    """From a client's leaving within a long answer to llama-server's idling; None if it had finished before."""
    body = {**_ASKED, "model": "auto", "stream": True, "max_tokens": 100_000, "ignore_eos": True}
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=body, timeout=_PATIENCE_S) as answer:
        next(answer.iter_bytes())
        if not _busy(upstream):
            return None
    left = time.perf_counter()
    while _busy(upstream):
        if time.perf_counter() - left > _PATIENCE_S:
            raise SystemExit("llama-server goes on though the client has left")
    return (time.perf_counter() - left) * 1e3


@click.command()
@click.argument("program", type=click.Path(exists=True, path_type=Path))
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="GGUF; the bundled one by default.")
def main(program: Path, model: Path | None) -> None:
    """Ask llama-server directly and through the gateway, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        upstream = LlamaServer(program, model or bundled_folder() / "tiny-Q8_0.gguf", 1, slots=2)
        try:
            path = Path(folder) / "gateway.yaml"
            path.write_text(_CONFIG % upstream.address, encoding="utf-8")
            with ServerProcess("--forward", "--config", str(path), "--model", "mini") as server:
                with openai.OpenAI(base_url=f"{upstream.address}/v1", api_key="none", max_retries=0) as direct:
                    expected = _text(direct, "any", False)
                with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
                    same = {
                        "plain": _text(client, "auto", False) == expected,
                        "streamed": _text(client, "auto", True) == expected,
                        "by the model's name": _text(client, "llama/any", True) == expected,
                    }
                same["8 at once"] = asyncio.run(_together(server.address, 8)) == [expected] * 8
                stopped_ms = _milliseconds_to_stop(server.address, upstream.address)
        finally:
            upstream.close()
    print(json.dumps({"characters": len(expected), "same": same, "stops_ms": stopped_ms and round(stopped_ms, 1)}, indent=2))
    sys.exit(0 if all(same.values()) else 1)


if __name__ == "__main__":
    main()
