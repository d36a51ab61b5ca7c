"""A server with a model: the connection to it, its checks, and what is done when it is away.

All requests are sent from one thread of its own, so that any thread can ask, and stop asking.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from archroute_edge.deciders._remote_apis import APIS, Api, TokenScores, UnusableReplyError
from archroute_edge.engine import Cancellation
from archroute_edge.errors import EngineError, RemoteError, SettingsError
from archroute_edge.http_client import URL, InvalidURL, UpstreamClient, UpstreamError, UpstreamReply, is_here, tls_of
from archroute_edge.models import RemoteAddress
from archroute_edge.system import expanded

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_MOST_TRIES: Final = 3
_FIRST_WAIT_S: Final = 0.1
_FAILURES_BEFORE_REST: Final = 3
_REST_S: Final = 10.0
# For each request that is on its way, as many wait for their turn; more would not be answered in time.
_MOST_WAITING: Final = 4
_LONGEST_REPLY: Final = 16 << 20
_LONGEST_SHOWN: Final = 200
_LONGEST_MESSAGE: Final = 500
_SHORTEST_SECRET: Final = 8
_BUSY: Final = (408, 425, 429, 500, 502, 503, 504)
_CALLERS_FAULT: Final = (400, 413, 422)
_REFUSALS_BEFORE_LOOK: Final = 3
# Tokens that no list of the most probable ones has together.
_PROBES: Final = 7


@dataclass(frozen=True)
class Served:
    """What a server says of itself: which kind it is, what it calls the model, and how many tokens a prompt may have."""

    api: Api
    model: str
    n_ctx: int | None


class RemoteServer:
    """The server at an address. It is looked at when it is first needed, and again after failures.

    Args:
        address: where it is.
        n_vocabulary: tokens that prompts are written with.
        environment: holds the key; None for the process's own.

    Raises:
        SettingsError: the key, the certificates or the address cannot be used.
    """

    def __init__(self, address: RemoteAddress, n_vocabulary: int, environment: Mapping[str, str] | None = None) -> None:
        self.address = address
        self._n_vocabulary = n_vocabulary
        self._key = _key(address, os.environ if environment is None else environment)
        try:
            tls = tls_of(str(expanded(address.ca))) if address.ca else None
        except OSError as exc:
            raise SettingsError(f"{address.name}: its ca {address.ca} cannot be used ({exc.strerror or exc})") from exc
        try:
            self._urls = {path: URL(address.url + path) for path in ("/v1/models", *(api.path for api in APIS.values()))}
        except InvalidURL:
            raise SettingsError(f"{address.name}: not an address") from None
        self.served: Served | None = None
        """What it said of itself; None before it was reached."""
        self.n_breaks = 0
        """How often it failed, or a connection to it did: it may have been started with another model meanwhile."""
        self._client = UpstreamClient(tls=tls)
        self._n_failures = 0
        self._n_refusals = 0
        self._waited_in_vain = 0.0
        self._rests_until = 0.0
        self._is_trying = False
        self._n_asking = 0
        self._loop = asyncio.new_event_loop()
        self._is_closed = False
        self._closing = threading.Lock()
        self._slots: asyncio.Semaphore
        self._checking: asyncio.Lock
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="archroute-remote", daemon=True)
        self._thread.start()
        started.wait()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._slots = asyncio.Semaphore(self.address.concurrency)
        self._checking = asyncio.Lock()
        self._loop.call_soon(started.set)
        self._loop.run_forever()

    def wait_for(self, work: Coroutine[Any, Any, Result], cancellation: Cancellation) -> Result:
        """The result of ``work``, which is given up when ``cancellation`` is set. From any thread.

        Raises:
            DecisionCancelledError: it was.
            EngineError: closed.
        """
        # The end of the loop gives up what was put into it before.
        with self._closing:
            if self._is_closed:
                work.close()
                raise EngineError("the router has been closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            cancellation.wait_until(lambda seconds: wait([future], seconds).done)
        except BaseException:
            future.cancel()
            raise
        if future.cancelled():
            raise EngineError("the router has been closed")
        return future.result()

    async def deciding(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """The result of ``work``, which asks for one decision, within the time for that.

        Raises:
            RemoteError: no server, no time, or no usable answer.
        """
        self._check_may_ask()
        is_trial = self._n_failures >= _FAILURES_BEFORE_REST
        self._is_trying |= is_trial
        self._n_asking += 1
        began = time.monotonic()
        try:
            result = await asyncio.wait_for(work(), self.address.timeout)
        except asyncio.TimeoutError:
            error = self._error(f"no answer within {self.address.timeout:g} s", is_away=True)
            self._note_failure()
            raise error from None
        except _RefusedPromptError:
            self._note_refusal()
            raise
        except RemoteError:
            self._note_failure()
            raise
        except asyncio.CancelledError:
            # Else a server that hangs would be waited for up to the deadline of every decision.
            self._waited_in_vain += time.monotonic() - began
            if self._waited_in_vain >= self.address.timeout:
                self._note_failure()
            raise
        finally:
            self._n_asking -= 1
            self._is_trying &= not is_trial
        self._n_failures = self._n_refusals = 0
        self._waited_in_vain = 0.0
        return result

    def _check_may_ask(self) -> None:
        left = self._rests_until - time.monotonic()
        if self._n_failures >= _FAILURES_BEFORE_REST and (left > 0 or self._is_trying):
            raise self._error(f"it failed {self._n_failures} times in a row and rests for {max(left, 0.0):.0f} s", is_away=True)
        if self._n_asking >= self.address.concurrency * (1 + _MOST_WAITING):
            raise self._error(f"{self._n_asking} decisions wait for it already", is_away=True)

    def _note_failure(self) -> None:
        self.n_breaks += 1
        self._n_failures += 1
        self._waited_in_vain = 0.0
        if self._n_failures >= _FAILURES_BEFORE_REST:
            self._rests_until = time.monotonic() + _REST_S
            # Another one may be there afterwards.
            self.served = None

    def _note_refusal(self) -> None:
        """The server answers, and does not take this prompt. Several in a row may mean that it serves another model now."""
        self._n_refusals += 1
        if self._n_refusals >= _REFUSALS_BEFORE_LOOK:
            self._n_refusals, self.served = 0, None

    async def ready(self) -> Served:
        """What it says of itself; asked for once, with a look at whether it does what it is asked to.

        Raises:
            RemoteError: it is away, no server of a known kind, serves another model, or ignores parts of requests.
        """
        if self.served is None:
            async with self._checking:
                if self.served is None:
                    try:
                        served = self._read_models(await self._request("GET", "/v1/models", None))
                        await self._probe(served)
                    except _RefusedPromptError as exc:
                        # No caller wrote these requests.
                        raise RemoteError(str(exc), is_away=False) from None
                    self.served = served
        return self.served

    def _read_models(self, reply: Any) -> Served:
        try:
            models = {str(each["id"]): each for each in reply["data"]}
        except (KeyError, TypeError):
            raise self._error("its /v1/models lists no models", is_away=False) from None
        owners = [each.get("owned_by") for each in models.values()]
        wanted = self.address.api
        api = APIS[wanted] if wanted else next((each for each in APIS.values() if each.owner in owners), None)
        if api is None:
            kinds = ", ".join(APIS)
            message = f"its /v1/models does not say which server it is; add ?api= and one of {kinds} to the address"
            raise self._error(message, is_away=False)
        model = self.address.model
        if model not in models:
            # Only llama-server goes by the name of its file, and has one model.
            if len(models) != 1 or (model and api.owner != "llamacpp"):
                known = ", ".join(models) or "none"
                raise self._error(f"it does not serve {model or 'one model'}; it serves {known}", is_away=False)
            model = next(iter(models))
        about = models[model]
        meta = about.get("meta")
        meta = meta if isinstance(meta, dict) else {}
        n_vocabulary = meta.get("n_vocab")
        if isinstance(n_vocabulary, int) and n_vocabulary != self._n_vocabulary:
            both = f"its model has {n_vocabulary} tokens, and the vocabulary here {self._n_vocabulary}"
            raise self._error(f"{both}; name the model that it serves", is_away=False)
        n_ctx = about.get("max_model_len") or meta.get("n_ctx")
        return Served(api, model, n_ctx if isinstance(n_ctx, int) else None)

    async def _probe(self, served: Served) -> None:
        """Ask about tokens that no short list has, after a prompt of one token."""
        step = max(1, self._n_vocabulary // (_PROBES + 1))
        ids = sorted({min(step * number, self._n_vocabulary - 1) for number in range(1, _PROBES + 1)})
        await self._ask(served, [ids[0]], ids)

    async def ask(self, prompt: Sequence[int], ids: Sequence[int]) -> TokenScores:
        """How probable each of ``ids`` is after ``prompt``.

        Raises:
            RemoteError: as :meth:`ready`, or no usable answer.
        """
        return await self._ask(await self.ready(), prompt, ids)

    async def _ask(self, served: Served, prompt: Sequence[int], ids: Sequence[int]) -> TokenScores:
        most = served.api.most_ids or len(ids)
        chunks = [ids[start : start + most] for start in range(0, len(ids), most)]
        found = await together(self._ask_once(served, prompt, chunk) for chunk in chunks)
        return TokenScores({each: value for one in found for each, value in one.logarithms.items()}, found[0].n_cached)

    async def _ask_once(self, served: Served, prompt: Sequence[int], ids: Sequence[int]) -> TokenScores:
        reply = await self._request("POST", served.api.path, served.api.body(served.model, prompt, ids))
        try:
            return served.api.read(reply, len(prompt), ids)
        except UnusableReplyError as exc:
            message = str(exc)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            message = "its reply has no probabilities of tokens"
        # A whole number may have more digits than a float can hold.
        except OverflowError:
            message = "its reply has what is no number in the place of a probability"
        raise self._error(f"{served.api.title} answers, but {message}", is_away=False)

    async def _request(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        for number in range(1, _MOST_TRIES + 1):
            try:
                async with self._slots:
                    return await self._try(method, path, body)
            except _PassingError as exc:
                # Not all at once.
                pause = max(_FIRST_WAIT_S * 2**number * random.uniform(0.5, 1.0), exc.retry_after)
                if number == _MOST_TRIES or pause > self.address.timeout:
                    raise self._error(exc.message, is_away=True) from exc
            await asyncio.sleep(pause)
        raise AssertionError

    async def _try(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        headers = [(b"host", self._urls[path].netloc), (b"accept", b"application/json"), (b"accept-encoding", b"identity")]
        headers += [] if body is None else [(b"content-type", b"application/json")]
        headers += [] if self._key is None else [(b"authorization", f"Bearer {self._key}".encode())]
        content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        try:
            reply = await self._client.send(self._urls[path], headers, content, stall=self.address.timeout, method=method)
            try:
                text = await self._whole(reply)
            finally:
                await reply.close()
        except UpstreamError as exc:
            self.n_breaks += 1
            if exc.word == "connection_refused":
                # The caller is better told at once.
                raise self._error(str(exc), is_away=True) from exc
            raise _PassingError(str(exc)) from exc
        if reply.status == 200:
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                raise self._error(f"its answer from {path} is no JSON", is_away=False) from None
        # One that has just been started answers 503.
        self.n_breaks += reply.status >= 500
        raise self._refusal(reply, path, text)

    async def _whole(self, reply: UpstreamReply) -> bytes:
        text = bytearray()
        async for chunk in reply.chunks():
            text += chunk
            if len(text) > _LONGEST_REPLY:
                raise self._error("its answer is too long", is_away=False)
        return bytes(text)

    def _refusal(self, reply: UpstreamReply, path: str, text: bytes) -> Exception:
        said = self._shown(text)
        if reply.status in _BUSY:
            return _PassingError(f"HTTP {reply.status} from {path}{said}", _seconds(reply.header(b"retry-after")))
        if 300 <= reply.status < 400:
            what = f"it redirects {path} (HTTP {reply.status}), which is not followed; name the server itself"
            return self._error(what, is_away=False)
        if reply.status in (401, 403):
            what = "takes no request without a key; put it into" if self._key is None else "refuses the key in"
            return self._error(f"it {what} {self.address.key_variable}", is_away=False)
        error = self._error(f"HTTP {reply.status} from {path}{said}", is_away=False)
        return _RefusedPromptError(str(error), is_away=False) if reply.status in _CALLERS_FAULT else error

    def _shown(self, text: bytes) -> str:
        try:
            value = json.loads(text)
            error = value.get("error", value)
            message = error if isinstance(error, str) else error.get("message") or error.get("detail") or ""
        except (AttributeError, ValueError, RecursionError):
            message = text.decode("utf-8", "replace")
        message = self._redacted(str(message))
        return f": {message[:_LONGEST_SHOWN]}" if message else ""

    def _redacted(self, message: str) -> str:
        """One line without the key. Servers say in their messages what they were sent."""
        if self._key is not None and len(self._key) >= _SHORTEST_SECRET:
            for written in {self._key, json.dumps(self._key)[1:-1]}:
                message = message.replace(written, "[redacted]")
        return " ".join(message.split())

    def _error(self, message: str, *, is_away: bool) -> RemoteError:
        return RemoteError(f"{self.address.name}: {self._redacted(message)[:_LONGEST_MESSAGE]}", is_away=is_away)

    def close(self) -> None:
        """Give up what is asked, close the connections, and end the thread."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()
        await self._loop.shutdown_asyncgens()
        # A transport closes its socket in a later turn of the loop than it is told to.
        await asyncio.sleep(0)
        self._loop.stop()


async def together(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """The results of all of them, side by side.

    If one fails, or this is cancelled, none goes on: the others are cancelled and have ended before the error is raised.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        # After a failure gather lets the others run.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _RefusedPromptError(RemoteError):
    """The server takes requests, but not this one, such as a prompt that is too long for it."""


class _PassingError(Exception):
    """A failure that may not come again."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


def _seconds(header: bytes) -> float:
    try:
        return min(max(float(header), 0.0), 1e9)
    except ValueError:
        return 0.0


def _key(address: RemoteAddress, environment: Mapping[str, str]) -> str | None:
    key = environment.get(address.key_variable, "").strip()
    if not key:
        if address.needs_key:
            # A name with small letters may be the key itself.
            named = address.key_variable if address.key_variable.isupper() else "that its option key names"
            what = f"the environment variable {named} is not set; put the key into it"
            raise SettingsError(f"{address.name}: {what}")
        return None
    if not key.isascii() or not key.isprintable():
        what = f"{address.key_variable} holds what cannot stand in a header; put the key alone into it"
        raise SettingsError(f"{address.name}: {what}")
    if address.url.startswith("http:") and not is_here(URL(address.url).host):
        logger.warning("%s: the key in %s is sent unencrypted; use https", address.name, address.key_variable)
    return key
