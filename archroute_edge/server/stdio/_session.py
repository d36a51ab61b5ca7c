"""Lines of a host to requests of the service, and results to lines: the methods, and what they answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from archroute_edge import __version__
from archroute_edge.config import Keys, parse_json
from archroute_edge.decision import Decision, Warmup
from archroute_edge.errors import ConversationError, DecisionCancelledError, RequestError
from archroute_edge.models import models_on_this_machine
from archroute_edge.routing import RoutingService
from archroute_edge.server import MAX_BATCH, StdioSettings, check_inline_table, earliest, options, read_options
from archroute_edge.server.stdio._json_rpc import (
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    Reply,
    Request,
    RequestId,
    encode,
    error_reply,
    id_of,
    is_id,
    result_reply,
)

logger = logging.getLogger(__name__)

Send = Callable[[Reply], None]


@dataclass(frozen=True)
class _Method:
    """A method: the options it takes, what it does, and what the reply says of the result.

    ``start`` gives the result, or its future. ``finish`` makes plain values of it, and of None if what was asked for was
    called off and ``may_be_left_off``.
    """

    options: Keys
    start: Callable[[RoutingService, StdioSettings, dict[str, Any]], Any]
    finish: Callable[[Any], Any] = lambda found: found
    may_be_left_off: bool = False


def _route(service: RoutingService, settings: StdioSettings, asked: dict[str, Any]) -> Future[Decision]:
    deadline = earliest(asked.pop("deadline", None), settings.deadline)
    return service.submit(asked.pop("messages"), **asked, deadline=deadline)


def _info(service: RoutingService, settings: StdioSettings, _asked: dict[str, Any]) -> dict[str, Any]:
    router = service.router
    return {
        "name": "archroute-edge",
        "version": __version__,
        "model": "+".join(file.name for file in router.model_files),
        "model_files": [str(file.path) for file in router.model_files],
        "routes": [asdict(route) for route in router.config.table],
        "default_model": router.config.default_model,
        "limits": {"line_bytes": settings.max_line, "batch": MAX_BATCH, "deadline": settings.deadline},
        "service": asdict(service.stats()),
    }


def _models(_service: RoutingService, _settings: StdioSettings, _asked: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": file.name, "path": str(file.path), "prompt_format": file.prompt_format} for file in models_on_this_machine()
    ]


_METHODS: Final = {
    "route": _Method(
        options("the parameters of route", "messages", "routes scores key deadline caller"), _route, Decision.to_dict
    ),
    "route_many": _Method(
        options("the parameters of route_many", "conversations", "routes scores keys caller"),
        lambda service, _settings, asked: service.submit_many(asked.pop("conversations"), **asked),
        lambda decisions: [each.to_dict() for each in decisions],
    ),
    "warm": _Method(
        options("the parameters of warm", "", "messages routes whole scores caller"),
        lambda service, _settings, asked: service.warm(asked.pop("messages", None), **asked),
        Warmup.reply,
        may_be_left_off=True,
    ),
    "info": _Method(options("the parameters of info", "", ""), _info),
    "models": _Method(options("the parameters of models", "", ""), _models),
}
_CANCEL: Final = "cancel"
_CANCEL_OPTIONS: Final = options("the parameters of cancel", "id", "")


class Session:
    """Answers the lines of one host: at once, or from the service's thread when what a line asks for is done.

    Args:
        service: decides.
        settings: the server's.
        send: takes a reply as a line, from any thread; must not wait.
    """

    def __init__(self, service: RoutingService, settings: StdioSettings, send: Callable[[bytes], None]) -> None:
        self._service = service
        self._settings = settings
        self._send = send
        self._pending: dict[Future[Any], RequestId] = {}
        self._lock = threading.Lock()

    def handle(self, line: bytes | None) -> None:
        """Answer a line; None stands for one that was too long to be read."""
        try:
            if line is None:
                raise RequestError(f"a line of more than {self._settings.max_line:,} bytes is not read", code=INVALID_REQUEST)
            value = _parse(line)
        except RequestError as exc:
            self._send(encode(error_reply(None, exc)))
            return
        if not isinstance(value, list):
            self._answer(_read(value), lambda reply: self._send(encode(reply)))
            return
        requests = [_read(each) for each in value]
        n_replies = sum(not (isinstance(each, Request) and each.is_notification) for each in requests)
        batch = _BatchReplies(n_replies, lambda replies: self._send(encode(replies)))
        for each in requests:
            self._answer(each, batch.add)

    def cancel_all(self) -> None:
        """Call off everything that is under way."""
        with self._lock:
            futures = list(self._pending)
        for future in futures:
            future.cancel()

    def _answer(self, request: Request | Reply, send: Send) -> None:
        if not isinstance(request, Request):
            send(request)
            return
        reply = _log_error if request.is_notification else send
        try:
            if request.method == _CANCEL:
                reply(result_reply(request.id, self._cancel(request.params)))
                return
            method = _method(request.method)
            asked = read_options(request.params, method.options)
            if "routes" in asked:
                check_inline_table(asked["routes"])
            found = method.start(self._service, self._settings, asked)
            if not isinstance(found, Future):
                reply(result_reply(request.id, method.finish(found)))
                return
        except Exception as exc:  # noqa: BLE001 - whatever it is, the host waits for an answer
            reply(error_reply(request.id, exc))
            return
        with self._lock:
            self._pending[found] = request.id
        found.add_done_callback(partial(self._done, request, method, reply))

    def _cancel(self, params: dict[str, Any]) -> dict[str, bool]:
        """Call off the requests with an id; says whether one was still under way."""
        wanted = read_options(params, _CANCEL_OPTIONS)["id"]
        if wanted is None or not is_id(wanted):
            raise RequestError("id must be the id of a request, text or a number")
        with self._lock:
            futures = [future for future, each in self._pending.items() if each == wanted]
        return {"cancelled": sum(future.cancel() for future in futures) > 0}

    def _done(self, request: Request, method: _Method, reply: Send, future: Future[Any]) -> None:
        with self._lock:
            del self._pending[future]
        try:
            reply(result_reply(request.id, method.finish(_result(method, future))))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the host waits for an answer
            reply(error_reply(request.id, exc))


class _BatchReplies:
    """Gathers ``count`` replies to a batch, from any thread, and sends them as one when the last is there."""

    def __init__(self, count: int, send: Callable[[list[Reply]], None]) -> None:
        self._count = count
        self._send = send
        self._replies: list[Reply] = []
        self._lock = threading.Lock()

    def add(self, reply: Reply) -> None:
        with self._lock:
            self._replies.append(reply)
            is_last = len(self._replies) == self._count
        if is_last:
            self._send(self._replies)


def _parse(line: bytes) -> Any:
    try:
        value = parse_json(line, "request")
    except ConversationError as exc:
        raise RequestError(str(exc), code=PARSE_ERROR) from exc
    if isinstance(value, list) and not 0 < len(value) <= MAX_BATCH:
        raise RequestError(f"a batch has 1 to {MAX_BATCH} requests, and not {len(value)}", code=INVALID_REQUEST)
    return value


def _read(value: Any) -> Request | Reply:
    """The request that ``value`` is, or the reply that says why it is none."""
    try:
        return Request.read(value)
    except RequestError as exc:
        return error_reply(id_of(value), exc)


def _method(name: str) -> _Method:
    if name not in _METHODS:
        known = ", ".join([*_METHODS, _CANCEL])
        raise RequestError(f"there is no method {name[:60]!r}; there are {known}", code=METHOD_NOT_FOUND)
    return _METHODS[name]


def _result(method: _Method, future: Future[Any]) -> Any:
    try:
        return future.result()
    except (CancelledError, DecisionCancelledError):
        if method.may_be_left_off:
            return None
        raise DecisionCancelledError("the request was called off") from None


def _log_error(reply: Reply) -> None:
    """What becomes of the reply to a notification: nobody is to have it, but a mistake should be found."""
    if "error" in reply:
        logger.warning("a notification was not carried out: %s", reply["error"]["message"])
