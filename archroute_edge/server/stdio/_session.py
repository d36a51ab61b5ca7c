"""Lines of a host to requests of the service, and results to lines."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any

from archroute_edge.config import parse_json
from archroute_edge.errors import ConversationError, DecisionCancelledError, RequestError
from archroute_edge.routing import RoutingService
from archroute_edge.server import MAX_BATCH, StdioSettings
from archroute_edge.server.stdio._json_rpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    BatchReplies,
    Reply,
    Request,
    RequestId,
    encode,
    error_reply,
    id_of,
    is_id,
    read_request,
    result_reply,
)
from archroute_edge.server.stdio._methods import METHODS, Method, Parameters

logger = logging.getLogger(__name__)

Send = Callable[[Reply], None]

_CANCEL = "cancel"


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
        batch = BatchReplies(n_replies, lambda replies: self._send(encode(replies)))
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
                reply(result_reply(request.id, self._cancel(request)))
                return
            method = _method(request)
            given = Parameters(request.method, request.params, method.parameters)
            found = method.start(self._service, self._settings, given)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the host waits for an answer
            reply(error_reply(request.id, exc))
            return
        if not isinstance(found, Future):
            reply(result_reply(request.id, method.finish(found)))
            return
        with self._lock:
            self._pending[found] = request.id
        found.add_done_callback(partial(self._done, request, method, reply))

    def _cancel(self, request: Request) -> dict[str, bool]:
        """Call off the requests with an id; says whether one was still under way."""
        wanted = Parameters(_CANCEL, request.params, ("id",)).needed("id")
        if wanted is None or not is_id(wanted):
            raise RequestError("cancel takes the id of a request, text or a number", code=INVALID_PARAMS)
        with self._lock:
            futures = [future for future, each in self._pending.items() if each == wanted]
        return {"cancelled": sum(future.cancel() for future in futures) > 0}

    def _done(self, request: Request, method: Method, reply: Send, future: Future[Any]) -> None:
        with self._lock:
            del self._pending[future]
        try:
            reply(result_reply(request.id, method.finish(_result(method, future))))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the host waits for an answer
            reply(error_reply(request.id, exc))


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
        return read_request(value)
    except RequestError as exc:
        return error_reply(id_of(value), exc)


def _method(request: Request) -> Method:
    method = METHODS.get(request.method)
    if method is None:
        known = ", ".join([*METHODS, _CANCEL])
        raise RequestError(f"there is no method {request.method[:60]!r}; there are {known}", code=METHOD_NOT_FOUND)
    return method


def _result(method: Method, future: Future[Any]) -> Any:
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
