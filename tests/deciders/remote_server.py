"""A server with a model for tests: vLLM's, SGLang's or llama-server's paths, requests checked strictly, any fault on demand."""

from __future__ import annotations

import http.server
import json
import math
import select
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from archroute_edge.engine import EngineSettings, LoadedModel, Logits, open_engine, sequence_batch
from archroute_edge.models import RemoteApi

CERTIFICATE = Path(__file__).parent / "localhost.pem"
"""A key and a certificate for localhost that nobody trusts."""

N_CTX = 8192
OWNERS: dict[RemoteApi, str] = {"vllm": "vllm", "sglang": "sglang", "llama-server": "llamacpp"}
PATHS: dict[RemoteApi, str] = {"vllm": "/v1/completions", "sglang": "/generate", "llama-server": "/completion"}

LogitsAfter = Callable[[Sequence[int]], Logits]
Fault = str | int | bytes | None


class ModelLogits:
    """The logits of a model after a prompt; the prompt is evaluated as far as it differs from the last one."""

    def __init__(self, path: Path) -> None:
        self.model = LoadedModel(path)
        self._engine = open_engine(self.model, EngineSettings(N_CTX, 1))
        self._lock = threading.Lock()

    def __call__(self, tokens: Sequence[int]) -> Logits:
        with self._lock:
            self._engine.truncate(0, 0)
            row: Logits = self._engine.evaluate(sequence_batch(0, tokens, 0, [len(tokens) - 1]))[0].copy()
            return row

    def close(self) -> None:
        self._engine.close()
        self.model.close()


def haphazard(n_vocabulary: int) -> LogitsAfter:
    """Logits that are a function of the tokens, for tests that need no sense."""
    return lambda tokens: np.random.default_rng([len(tokens), *tokens[-8:]]).standard_normal(n_vocabulary).astype(np.float32)


class _ManyAtOnce(http.server.ThreadingHTTPServer):
    """Takes connections that are opened together; of more than the usual five, some would be tried again after a second."""

    daemon_threads = True
    request_queue_size = 128


class RequestError(Exception):
    """A request that the server would refuse."""


def need(holds: bool, what: str) -> None:
    if not holds:
        raise RequestError(what)


def is_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int and each >= 0 for each in value)


class RemoteModelServer:
    """The server; a context manager.

    ``fault`` says how requests for probabilities fail: a status (429), ``lying`` (restrictions are ignored), ``raw`` (logits),
    ``prefixed`` (a token is put in front of prompts), ``garbage``, ``redirect``, ``cut`` (the connection breaks), or ``stuck``
    (until :meth:`let_go`, or the client hangs up). Bytes are the answer itself, and a function is given the request.
    ``models_fault`` is the same for the list of models.
    """

    def __init__(self, kind: RemoteApi, logits: LogitsAfter, n_vocabulary: int, *, is_tls: bool = False, port: int = 0) -> None:
        self.kind = kind
        self.logits = logits
        self.n_vocabulary = n_vocabulary
        self.model = "served/model"
        self.vocabulary: Path | str = "tiny"
        """What an address names as the vocabulary."""
        self.max_model_len = 32768
        self.key: str | None = None
        self.fault: Fault | Callable[[Any], Fault] = None
        self.models_fault: Fault = None
        self.n_faults = 1 << 30
        self.bodies: list[Any] = []
        self.problems: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.n_now = self.n_most = self.n_hung_up = 0
        self.arrived = threading.Event()
        self._gate = threading.Event()
        self._lock = threading.Condition()
        self._server = _ManyAtOnce(("127.0.0.1", port), self._handler())
        if is_tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https://localhost' if is_tls else 'http://127.0.0.1'}:{self.port}"
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(0.02), daemon=True)
        self._thread.start()

    def __enter__(self) -> RemoteModelServer:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Be gone."""
        self._gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for_most(self, count: int) -> bool:
        """Wait until so many requests have been there at once."""
        with self._lock:
            return self._lock.wait_for(lambda: self.n_most >= count, 30)

    def wait_for_hang_ups(self, count: int) -> bool:
        """Wait until so many connections of stuck requests have been closed by the client; not as long as any time limit."""
        with self._lock:
            return self._lock.wait_for(lambda: self.n_hung_up >= count, 5)

    def let_go(self) -> None:
        """Let what is stuck go on."""
        self._gate.set()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stub._answer(self, None)

            def do_POST(self) -> None:
                stub._answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _answer(self, handler: http.server.BaseHTTPRequestHandler, body: Any) -> None:
        fault = self.models_fault if body is None else self.fault
        with self._lock:
            self.n_now += 1
            self.n_most = max(self.n_most, self.n_now)
            self._lock.notify_all()
            self.headers.append(dict(handler.headers))
            if body is not None:
                self.bodies.append(body)
                if fault is not None and self.n_faults <= 0:
                    fault = None
                self.n_faults -= fault is not None
        self.arrived.set()
        try:
            self._reply(handler, body, fault(body) if callable(fault) else fault)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self._lock:
                self.n_now -= 1

    def _reply(self, handler: http.server.BaseHTTPRequestHandler, body: Any, fault: Fault) -> None:
        if fault == "stuck" and self._hangs_up(handler):
            return
        if fault == "cut":
            handler.close_connection = True
            return
        if isinstance(fault, bytes):
            self._send(handler, 200, fault)
        elif fault == "garbage":
            self._send(handler, 200, b"<html>hello</html>")
        elif fault == "redirect":
            self._send(handler, 307, b"", location="http://127.0.0.1:9/elsewhere")
        elif isinstance(fault, int):
            self._send(
                handler, fault, json.dumps({"error": {"message": f"no luck, {handler.headers['Authorization']}"}}).encode()
            )
        elif self.key is not None and handler.headers["Authorization"] != f"Bearer {self.key}":
            self._send(handler, 401, b'{"error": "Unauthorized"}')
        elif body is None and handler.path == "/v1/models":
            self._send(handler, 200, json.dumps(self._models()).encode())
        elif handler.path != PATHS[self.kind]:
            self._send(handler, 404, b'{"detail": "Not Found"}')
        else:
            try:
                reply = {"vllm": self._vllm, "sglang": self._sglang, "llama-server": self._llama_server}[self.kind](body, fault)
            except RequestError as exc:
                self.problems.append(str(exc))
                self._send(handler, 400, json.dumps({"error": {"message": str(exc)}}).encode())
            else:
                self._send(handler, 200, json.dumps(reply).encode())

    def _hangs_up(self, handler: http.server.BaseHTTPRequestHandler) -> bool:
        """Whether the client closes the connection before the gate is opened."""
        while not self._gate.wait(0.02):
            if select.select([handler.connection], [], [], 0)[0]:
                with self._lock:
                    self.n_hung_up += 1
                    self._lock.notify_all()
                handler.close_connection = True
                return True
        return False

    def _send(self, handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
        handler.send_response(status)
        for name, value in {"content-length": str(len(body)), "content-type": "application/json", **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def _models(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"id": self.model, "object": "model", "owned_by": OWNERS[self.kind]}
        if self.kind == "llama-server":
            entry["meta"] = {"n_vocab": self.n_vocabulary, "n_ctx": self.max_model_len}
        else:
            entry["max_model_len"] = self.max_model_len
        return {"object": "list", "data": [entry]}

    def _log_probabilities(self, prompt: Sequence[int], fault: Fault) -> npt.NDArray[np.float64]:
        row = self.logits(prompt).astype(np.float64)
        return row if fault == "raw" else row - row.max() - math.log(np.exp(row - row.max()).sum())

    def _vllm(self, body: Any, fault: Fault) -> Any:
        fields = {"model", "prompt", "add_special_tokens", "max_tokens", "temperature", "logprobs", "logprob_token_ids"}
        need(set(body) == {*fields, "return_tokens_as_token_ids"}, f"fields {sorted(body)}")
        need(body["model"] == self.model, "model")
        need(is_ids(body["prompt"]) and is_ids(body["logprob_token_ids"]), "ids")
        need(len(body["logprob_token_ids"]) <= 128, "logprob_token_ids: at most 128")
        need((body["max_tokens"], body["temperature"], body["logprobs"]) == (1, 0, 0), "sampling")
        need(body["add_special_tokens"] is False and body["return_tokens_as_token_ids"] is True, "tokens")
        row = self._log_probabilities(body["prompt"], fault)
        ids = {int(row.argmax()), *(() if fault == "lying" else body["logprob_token_ids"])}
        top = {f"token_id:{each}": max(float(row[each]), -9999.0) for each in ids}
        n_prompt = len(body["prompt"]) + (fault == "prefixed")
        usage = {"prompt_tokens": n_prompt, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 3}}
        return {"choices": [{"text": "x", "logprobs": {"top_logprobs": [top]}}], "usage": usage}

    def _sglang(self, body: Any, fault: Fault) -> Any:
        fields = {
            "input_ids",
            "sampling_params",
            "return_logprob",
            "logprob_start_len",
            "top_logprobs_num",
            "token_ids_logprob",
        }
        need(set(body) == fields, f"fields {sorted(body)}")
        need(is_ids(body["input_ids"]) and is_ids(body["token_ids_logprob"]), "ids")
        need(body["sampling_params"] == {"max_new_tokens": 1, "temperature": 0}, "sampling_params")
        need((body["return_logprob"], body["logprob_start_len"], body["top_logprobs_num"]) == (True, -1, 0), "logprobs")
        row = self._log_probabilities(body["input_ids"], fault)
        found = [[float(row[each]), each, None] for each in body["token_ids_logprob"]]
        meta: dict[str, Any] = {"prompt_tokens": len(body["input_ids"]) + (fault == "prefixed"), "cached_tokens": 3}
        return {"text": "x", "meta_info": meta if fault == "lying" else {**meta, "output_token_ids_logprobs": [found]}}

    def _llama_server(self, body: Any, fault: Fault) -> Any:
        fields = {
            "prompt",
            "n_predict",
            "temperature",
            "samplers",
            "logit_bias",
            "n_probs",
            "post_sampling_probs",
            "cache_prompt",
        }
        need(set(body) == {*fields, "response_fields"}, f"fields {sorted(body)}")
        need(is_ids(body["prompt"]) and is_ids([each for each, _ in body["logit_bias"]]), "ids")
        need((body["n_predict"], body["temperature"], body["samplers"]) == (1, 1.0, []), "sampling")
        need(body["post_sampling_probs"] is True and body["cache_prompt"] is True, "flags")
        row = self.logits(body["prompt"]).astype(np.float64)
        for each, bias in () if fault == "lying" else body["logit_bias"]:
            row[each] += bias
        probabilities = np.exp(row - row.max()) / np.exp(row - row.max()).sum() * (2 if fault == "raw" else 1)
        best = np.argsort(-probabilities, kind="stable")[: body["n_probs"]]
        top = [{"id": int(each), "token": "x", "prob": float(probabilities[each])} for each in best if probabilities[each] > 0]
        n_prompt = len(body["prompt"]) + (fault == "prefixed")
        return {
            "completion_probabilities": [{"id": top[0]["id"], "top_probs": top}],
            "tokens_evaluated": n_prompt,
            "truncated": False,
            "timings": {"cache_n": 3, "prompt_n": n_prompt - 3},
        }
