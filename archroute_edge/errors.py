"""Every exception that archroute-edge raises on purpose.

::

    ArchRouteError
    ├── SettingsError            an argument of the router that makes no sense
    ├── RouteTableError          routes that cannot be used together (duplicates, reserved or empty names)
    ├── ConfigError              a config file that cannot be read, with file and line
    ├── ConversationError        messages that are malformed
    ├── PromptFormatError        an unknown prompt format, or a chat template that cannot carry a prompt
    ├── GrammarError             a grammar that llama.cpp must not be given
    ├── ModelError
    │   ├── ModelNotFoundError   no such model name or file
    │   ├── ModelFileError       a file that is not a usable GGUF
    │   ├── ModelLoadError       llama.cpp refused a file that looked sound
    │   └── DownloadError        a model that could not be fetched from the hub, whole and as published
    │       └── HubUnreachableError  no connection to the hub, or one that it did not answer
    ├── EngineError              llama.cpp failed while evaluating
    │   ├── ContextOverflowError the prompt does not fit into the context
    │   └── ForkedProcessError   a router or a service of the process that this one was forked from
    ├── DecisionCancelledError   a decision or warm-up that its caller called off
    │   └── EvaluationStoppedError   the evaluation that this stopped, with what of it was finished
    ├── ServiceError             a request that a RoutingService does not take or finish
    │   ├── QueueFullError           too many requests wait already
    │   └── ServiceClosedError       the service is closed, or closing
    ├── RequestError             a line of a program that is no request that can be answered
    ├── SavedPrefixError         a saved prefix that is damaged or belongs to something else
    ├── BenchmarkError           a measurement that could not be made
    │   └── MeasuringProcessError    the process that measured died
    ├── CaseError                a file of labelled cases that cannot be used, with file and line
    ├── CalibrationError         a calibration that cannot be read, fitted or written, or is another model's
    ├── CheckpointError          a Hugging Face checkpoint that cannot be converted
    ├── PeerError                a program measured beside ours that is missing, fails, or cannot be understood
    └── QuantizationError        an unknown quantization level, or a quantization that failed
        └── ImatrixError         an importance matrix that cannot be made, read or used

Each message says what is wrong, where, and what to do, in one line.
"""

from __future__ import annotations

from pathlib import Path


class ArchRouteError(Exception):
    """Base of all errors of this package; catching it catches everything a caller can cause."""


class SettingsError(ArchRouteError):
    """An argument of the router, or an option of the command line, that makes no sense."""


class RouteTableError(ArchRouteError):
    """The routes cannot be used together: empty table or name, duplicate, reserved name, too many.

    Args:
        message: what is wrong and what to do.
        place: the part of the list of routes that it is about, such as ``2.name``; empty for the list.
    """

    def __init__(self, message: str, *, place: str = "") -> None:
        super().__init__(message)
        self.place = place


class ConfigError(ArchRouteError):
    """A configuration cannot be used. ``str()`` reads ``path:line: message``.

    Args:
        message: what is wrong and what to do, without the place.
        path: the file, where there is one.
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
        place: the part of the list of messages that it is about, such as ``0.content.1``; empty for the list.
    """

    def __init__(self, message: str, *, place: str = "") -> None:
        super().__init__(message)
        self.place = place


class PromptFormatError(ArchRouteError):
    """No such prompt format, or the model's chat template cannot carry the prompt unchanged."""


class GrammarError(ArchRouteError):
    """A GBNF grammar that is not well formed; llama.cpp would crash on it."""


class ModelError(ArchRouteError):
    """A model cannot be found, read or loaded."""


class ModelNotFoundError(ModelError):
    """No file and no catalogue entry of that name on this machine."""


class ModelFileError(ModelError):
    """The file is not a GGUF that can be routed with: damaged, truncated, or of another kind."""


class ModelLoadError(ModelError):
    """llama.cpp refused to load a file that passed our own checks."""


class DownloadError(ModelError):
    """A model could not be fetched: no access, no connection, no room, or not what the hub says it is."""


class HubUnreachableError(DownloadError):
    """The hub, or the proxy before it, could not be reached or was not able to answer."""


class EngineError(ArchRouteError):
    """llama.cpp failed while evaluating tokens."""


class ContextOverflowError(EngineError):
    """A prompt needs more cells than the context has; the message gives both counts."""


class DecisionCancelledError(ArchRouteError):
    """A decision or warm-up was stopped through its ``Cancellation`` before it was finished."""


class EvaluationStoppedError(DecisionCancelledError):
    """An evaluation was stopped while it ran.

    Args:
        message: what was stopped.
        n_finished: tokens from the batch's beginning that are in the KV cache, whole pieces of it.
    """

    def __init__(self, message: str, *, n_finished: int = 0) -> None:
        super().__init__(message)
        self.n_finished = n_finished


class ServiceError(ArchRouteError):
    """A ``RoutingService`` does not take a request, or will not finish it."""


class QueueFullError(ServiceError):
    """Too many requests wait already.

    Args:
        message: what is wrong.
        retry_after: seconds after which there is probably room again.
    """

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServiceClosedError(ServiceError):
    """The service is closed, or was closed before the request's turn came."""


class ForkedProcessError(EngineError, ServiceClosedError):
    """A router or a service is used in a process that was forked from its own, where neither threads nor locks work."""


class RequestError(ArchRouteError):
    """What a program sent is no request: not JSON, too long, no such method, or parameters that make no sense.

    Args:
        message: what is wrong.
        code: the error code of JSON-RPC for it; that of parameters that make no sense unless told otherwise.
        place: the part of the request that it is about, such as ``deadline``; empty for the whole.
    """

    def __init__(self, message: str, *, code: int = -32602, place: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.place = place


class SavedPrefixError(ArchRouteError):
    """A saved prefix is damaged or belongs to another model, build or setting."""


class BenchmarkError(ArchRouteError):
    """A measurement could not be made: its process failed or was ended, or there is no room for what it needs."""


class MeasuringProcessError(BenchmarkError):
    """A process that measured was ended or died; the message has the reason as far as it is known."""


class CaseError(ArchRouteError):
    """A file of labelled cases cannot be used; the message has file and line."""


class CalibrationError(ArchRouteError):
    """A calibration cannot be read, fitted or written, or was fitted for another model or prompt format."""


class CheckpointError(ArchRouteError):
    """A Hugging Face checkpoint cannot be converted: missing file, wrong shape, unknown architecture."""


class PeerError(ArchRouteError):
    """A program that ours is measured beside is missing, failed, or said something that cannot be understood."""


class QuantizationError(ArchRouteError):
    """An unknown quantization level, or llama.cpp failed to quantize."""


class ImatrixError(QuantizationError):
    """An importance matrix is damaged, belongs to another model, or cannot be collected."""
