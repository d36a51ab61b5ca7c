"""llama-server: a process on a free port of this machine, asked over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archroute_edge.errors import PeerError
from tools.measure.peers.processes import PeerProcess
from tools.measure.peers.question import Question, Reply, token_literal_grammar

_HOST = "127.0.0.1"
_N_CTX = 4096
_N_CTX_OF_SLOT = 1024
_SECONDS_TO_LOAD = 600.0
_SECONDS_TO_ANSWER = 600.0


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


class LlamaServer(PeerProcess):
    """llama-server with its defaults, its prompt cache among them; healthy once this returns.

    Args:
        program: the path of llama-server.
        model: the GGUF.
        threads: threads for evaluation.
        grammar: whether it is held to the answer. Where it is not it writes as many tokens of its own choice, and saves
            what the grammar costs a model that disagrees with it: the sampler tries the favourite token alone first.
        slots: how many it answers at a time, where not as many as it chooses itself.
        options: more of the command line.

    Raises:
        PeerError: it cannot be run, or does not become healthy.
    """

    def __init__(
        self,
        program: Path,
        model: Path,
        threads: int,
        *,
        grammar: bool = True,
        slots: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._grammar = grammar
        self._port = free_port()
        n_ctx = _N_CTX if slots is None else _N_CTX_OF_SLOT * slots
        command = [str(program), "-m", str(model), "-c", str(n_ctx), "-t", str(threads), "-tb", str(threads)]
        command += [] if slots is None else ["-np", str(slots)]
        command += options
        super().__init__("llama-server", [*command, "--host", _HOST, "--port", str(self._port)])
        try:
            self._wait_until_healthy()
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://{_HOST}:{self._port}"

    def decide(self, question: Question) -> Reply:
        """One ``/completion`` over the prompt's token ids.

        Raises:
            PeerError: the server failed, or answered something that cannot be read.
        """
        n_answer = len(question.answer_tokens)
        request: dict[str, Any] = {
            "prompt": question.prompt,
            "n_predict": n_answer + 1,
            "temperature": 0.0,
            "cache_prompt": True,
        }
        request |= {"grammar": token_literal_grammar(question.answer_tokens)} if self._grammar else {"ignore_eos": True}
        body = json.dumps(request).encode()
        started = time.perf_counter()
        status, text = self._request("POST", "/completion", body, patience=2.0)
        seconds = time.perf_counter() - started
        if status != 200:
            raise PeerError(f"{self.name}: HTTP {status} from /completion: {text[:200]}")
        try:
            result = json.loads(text)
            n_reused, n_new = int(result["timings"]["cache_n"]), int(result["timings"]["prompt_n"])
            answer = str(result["content"])
        except (ValueError, KeyError, TypeError) as exc:
            raise PeerError(f"{self.name}: an answer without content or timings: {text[:200]}") from exc
        if self._grammar and result.get("stop_type") != "eos":
            raise PeerError(f"{self.name}: stopped by {result.get('stop_type')!r} instead of the end of the answer {answer!r}")
        # The last token that is sampled is not put through the model.
        n_decoded = int(result["tokens_predicted"]) - 1
        return Reply(seconds, answer if self._grammar else None, n_reused + n_new, n_reused, n_new + n_decoded)

    def _request(self, method: str, path: str, body: bytes | None = None, *, patience: float = 0.0) -> tuple[int, str]:
        # A connection each: the server closes those that wait while others are asked.
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=_SECONDS_TO_ANSWER)
        with contextlib.closing(connection):
            try:
                connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
                response = connection.getresponse()
                return response.status, response.read().decode("utf-8", "replace")
            except (OSError, http.client.HTTPException) as exc:
                raise PeerError(self.ending(patience) or f"{self.name}: {path} failed ({exc})") from exc

    def _wait_until_healthy(self) -> None:
        begun = time.monotonic()
        while time.monotonic() - begun < _SECONDS_TO_LOAD:
            try:
                status, _ = self._request("GET", "/health")
            except PeerError:
                # It may have ended just after the request failed.
                if (ending := self.ending()) is not None:
                    raise PeerError(ending) from None
            else:
                if status == 200:
                    return
            time.sleep(0.1)
        raise PeerError(f"{self.name}: not healthy within {_SECONDS_TO_LOAD:.0f} s: {self.last_words()}")
