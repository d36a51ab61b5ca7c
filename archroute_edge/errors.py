"""The exceptions of archroute-edge.

::

    ArchRouteError
    ├── SettingsError            an invalid argument of the router, or option of a command
    ├── RouteTableError          invalid routes (duplicates, reserved or empty names)
    ├── ConfigError              an invalid configuration file, with file and line
    ├── ConversationError        malformed messages
    ├── PromptFormatError        an unknown prompt format, or a chat template that cannot carry a prompt
    ├── GrammarError             a malformed grammar, on which llama.cpp would crash
    ├── ModelError
    │   ├── ModelNotFoundError   no such model name or file
    │   ├── ModelFileError       a file that is not a usable GGUF
    │   ├── ModelLoadError       llama.cpp refused a file that looked sound
    │   └── DownloadError        a model could not be fetched from the hub, complete and as published
    │       └── HubUnreachableError  no connection to the hub, or no answer
    ├── EngineError              llama.cpp failed while evaluating
    │   ├── ContextOverflowError the prompt does not fit into the context
    │   ├── RemoteError          a server with a remote model is away, or its answers cannot be used
    │   └── ForkedProcessError   a router or service made before this process was forked
    ├── DecisionCancelledError   a decision or warm-up was cancelled
    │   └── EvaluationStoppedError   while it was evaluated; has the number of finished tokens
    ├── ServiceError             a RoutingService refuses or drops a request
    │   ├── QueueFullError           too many requests wait already
    │   └── ServiceClosedError       the service is closed, or closing
    ├── RequestError             an invalid request to a server, over HTTP or stdio
    ├── SavedPrefixError         a saved prefix is damaged or belongs to something else
    ├── RecordError              the record of requests cannot be opened, read or written
    ├── BenchmarkError           a measurement failed
    │   └── MeasuringProcessError    the measuring process died
    ├── CaseError                an invalid file of labelled cases, with file and line
    ├── LabelError               a file to label cannot be read, or a folder of labels cannot be used
    ├── QualityError             outcomes or a predictor of quality cannot be read, trained or written
    ├── CalibrationError         a calibration cannot be read, fitted or written, or is another model's
    ├── CheckpointError          a Hugging Face checkpoint cannot be converted
    ├── PeerError                a program measured beside ours is missing, fails, or cannot be understood
    └── QuantizationError        an unknown quantization level, or a failed quantization
        └── ImatrixError         an importance matrix cannot be made, read or used

Each message says what is wrong, where, and what to do, in one line.
"""

from __future__ import annotations

from pathlib import Path


class ArchRouteError(Exception):
    """Base of all errors of this package; catches everything that a caller can cause."""


class SettingsError(ArchRouteError):
    """An invalid argument of the router, or an invalid option of the command line."""


class RouteTableError(ArchRouteError):
    """The routes cannot be used together: empty table or name, duplicate, reserved name, too many.

    Args:
        message: what is wrong and what to do.
        place: its place in the list of routes, such as ``2.name``; empty for the whole list.
    """

    def __init__(self, message: str, *, place: str = "") -> None:
        super().__init__(message)
        self.place = place


class ConfigError(ArchRouteError):
    """A configuration cannot be used. ``str()`` reads ``path:line: message``.

    Args:
        message: what is wrong and what to do, without the place.
        path: the file, if there is one.
        line: line number, counted from 1.
    """

    def __init__(self, message: str, *, path: str | Path | None = None, line: int | None = None) -> None:
        self.message = message
        self.path = Path(path) if path is not None else None
        self.line = line
        place = "".join(f"{part}:" for part in (path, line) if part is not None)
        super().__init__(f"{place} {message}" if place else message)


class ConversationError(ArchRouteError):
    """The messages are malformed, or cannot be read.

    Args:
        message: what is wrong and what to do.
        place: its place in the list of messages, such as ``0.content.1``; empty for the whole list.
    """

    def __init__(self, message: str, *, place: str = "") -> None:
        super().__init__(message)
        self.place = place


class PromptFormatError(ArchRouteError):
    """No such prompt format, or the model's chat template cannot carry the prompt unchanged."""


class GrammarError(ArchRouteError):
    """A malformed GBNF grammar; llama.cpp would crash on it."""


class ModelError(ArchRouteError):
    """A model cannot be found, read or loaded."""


class ModelNotFoundError(ModelError):
    """No file and no catalogue entry of that name on this machine."""


class ModelFileError(ModelError):
    """The file is not a usable GGUF: damaged, truncated, or of another kind."""


class ModelLoadError(ModelError):
    """llama.cpp refused to load a file that passed our own checks."""


class DownloadError(ModelError):
    """A model could not be fetched: no access, no connection, no disk space, or not the file that the hub describes."""


class HubUnreachableError(DownloadError):
    """The hub, or its proxy, could not be reached or could not answer."""


class EngineError(ArchRouteError):
    """llama.cpp failed while evaluating tokens."""


class ContextOverflowError(EngineError):
    """A prompt needs more cells than the context has; the message gives both counts."""


class RemoteError(EngineError):
    """A server that has to decide is away, refuses, or answers what cannot be used.

    Args:
        message: which server, what happened, and what to do; without its key.
        is_away: whether it may answer later, as it is.
    """

    def __init__(self, message: str, *, is_away: bool) -> None:
        super().__init__(message)
        self.is_away = is_away


class DecisionCancelledError(ArchRouteError):
    """A decision or warm-up was cancelled before it was finished."""


class EvaluationStoppedError(DecisionCancelledError):
    """An evaluation was stopped while it ran.

    Args:
        message: what was stopped.
        n_finished: tokens from the start of the batch, in whole pieces, that are in the KV cache.
    """

    def __init__(self, message: str, *, n_finished: int = 0) -> None:
        super().__init__(message)
        self.n_finished = n_finished


class ServiceError(ArchRouteError):
    """A ``RoutingService`` refuses a request, or will not finish it."""


class QueueFullError(ServiceError):
    """Too many requests wait.

    Args:
        message: what is wrong.
        retry_after: seconds until there is probably room.
    """

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServiceClosedError(ServiceError):
    """The service was closed before the request's turn."""


class ForkedProcessError(EngineError, ServiceClosedError):
    """A router or service was made before this process was forked; its threads and locks do not work here."""


class RequestError(ArchRouteError):
    """An invalid request to a server: not JSON, too long, an unknown method, or invalid parameters.

    Args:
        message: what is wrong.
        code: its JSON-RPC error code; by default, that of invalid parameters.
        place: its place in the request, such as ``deadline``; empty for the whole request.
    """

    def __init__(self, message: str, *, code: int = -32602, place: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.place = place


class SavedPrefixError(ArchRouteError):
    """A saved prefix is damaged or belongs to another model, build or setting."""


class RecordError(ArchRouteError):
    """The record of requests cannot be opened, read or written, or holds no such request."""


class BenchmarkError(ArchRouteError):
    """A measurement failed: its process failed or was ended, or there is not enough room."""


class MeasuringProcessError(BenchmarkError):
    """A measuring process was ended or died; the message has the reason, if known."""


class CaseError(ArchRouteError):
    """A file of labelled cases is invalid; the message has file and line."""


class LabelError(ArchRouteError):
    """A file to label cannot be found or read, or the folder of labels is of another run."""


class QualityError(ArchRouteError):
    """Outcomes or a predictor of quality cannot be read, trained or written; the message has file and line."""


class CalibrationError(ArchRouteError):
    """A calibration cannot be read, fitted or written, or was fitted for another model or prompt format."""


class CheckpointError(ArchRouteError):
    """A Hugging Face checkpoint cannot be converted: missing file, wrong shape, unknown architecture."""


class PeerError(ArchRouteError):
    """A program measured beside ours is missing, failed, or gave unexpected output."""


class QuantizationError(ArchRouteError):
    """An unknown quantization level, or llama.cpp failed to quantize."""


class ImatrixError(QuantizationError):
    """An importance matrix is damaged, belongs to another model, or cannot be collected."""
