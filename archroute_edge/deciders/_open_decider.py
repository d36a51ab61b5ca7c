"""From model files to the decider that works with them: generative, encoder, or a cascade of both."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from archroute_edge.deciders._cascade import CascadeDecider
from archroute_edge.deciders._decider import Decider
from archroute_edge.deciders._encoder import EncoderDecider
from archroute_edge.deciders._settings import (
    CASCADE,
    NO_PROMPT,
    OF_A_CONTEXT,
    DeciderSettings,
    GenerativeSettings,
    choose_prompt_format,
)
from archroute_edge.engine import (
    Cancellation,
    EngineName,
    GGUFHeader,
    LoadedModel,
    ModelKind,
    choose_engine,
    fits_ik,
    physical_cores,
)
from archroute_edge.errors import RemoteError, SettingsError
from archroute_edge.models import AUTO, ModelFile
from archroute_edge.routes import RouteTable
from archroute_edge.system import OwnProcess, stop_at_the_end

if TYPE_CHECKING:
    from archroute_edge.deciders._remote import RemoteDecider

logger = logging.getLogger(__name__)


def open_decider(files: tuple[ModelFile, ...], settings: DeciderSettings, table: RouteTable) -> Decider:
    """Load the model, or the encoder of a cascade, and get ready for ``table``.

    Raises:
        SettingsError: a setting means nothing to the models.
        ModelError: a model cannot be read or loaded, or is of the wrong kind for its place.
        ContextOverflowError: the routes do not fit into the context.
        CalibrationError: the calibration was fitted for another model, or one that is asked otherwise.
    """
    first, *rest = files
    if not rest and settings.switch_over is not None:
        raise SettingsError(f"switch_over is about a cascade, and {first.name} is one model; name ENCODER{CASCADE}MODEL")
    if rest:
        decider = _open_cascade(first, rest[0], settings, table)
    elif first.remote is not None:
        decider, _ = _open_remote(first, settings, table, is_second=False)
    else:
        decider = _open(first, settings, None, table)
    try:
        if settings.calibration is not None:
            settings.calibration.check(first.name, decider.model.fingerprint, _prompt_format(decider))
    except BaseException:
        decider.close()
        raise
    return decider


def _prompt_format(decider: Decider) -> str:
    return NO_PROMPT if decider.model.kind == "encoder" else decider.prompt.format.name  # type: ignore[attr-defined]


def _open_cascade(first: ModelFile, second: ModelFile, settings: DeciderSettings, table: RouteTable) -> Decider:
    # Settings about prompts are for the second model, which is opened when it is needed.
    plain = DeciderSettings(
        GenerativeSettings(
            n_threads=settings.generative.n_threads,
            n_gpu_layers=settings.generative.n_gpu_layers,
            prefix_folder=settings.generative.prefix_folder,
            engine=settings.generative.engine,
        )
    )
    # An engine that cannot evaluate the encoder is about the language model alone.
    encoder = _open(first, plain, "encoder", table, must_fit=second.remote is not None)
    assert isinstance(encoder, EncoderDecider)
    stated = (settings.switch_over, settings.calibration.switch_over if settings.calibration else None)
    switch_over = next((each for each in stated if each is not None), encoder.scaling.switch_over)
    if second.remote is not None:
        try:
            remote, absence = _open_remote(second, settings, table, is_second=True)
        except BaseException:
            encoder.close()
            raise
        from archroute_edge.deciders._remote_cascade import RemoteCascadeDecider

        return RemoteCascadeDecider(encoder, remote, switch_over, settings.calibration, absence)
    ask = partial(_open, second, settings, "generative")
    return CascadeDecider(encoder, ask, switch_over, settings.calibration)


def _open_remote(
    file: ModelFile, settings: DeciderSettings, table: RouteTable, *, is_second: bool
) -> tuple[RemoteDecider, RemoteError | None]:
    """A remote model. As a second one it may be away for now, which is then said."""
    address = file.remote
    assert address is not None
    # In a cascade the engine, threads and layers are the encoder's.
    names = OF_A_CONTEXT if is_second else (*OF_A_CONTEXT, "engine")
    given: list[str] = [name for name in names if name in settings.generative.given]
    if not is_second:
        machine = {"threads": settings.generative.n_threads, "gpu_layers": settings.generative.n_gpu_layers}
        given += [name for name, value in machine.items() if value is not None]
    if given:
        raise SettingsError(f"{given[0]} is about a model on this machine, and {file.name} is not; leave it out")
    # Brings an HTTP client, which an extra installs.
    try:
        from archroute_edge.deciders._remote import RemoteDecider
        from archroute_edge.deciders._remote_server import RemoteServer
    except ModuleNotFoundError as exc:
        raise SettingsError(f"{file.name}: a remote model needs an HTTP client; install archroute-edge[remote]") from exc

    with _stopped_at_the_end(Cancellation()) as flag:
        loaded = LoadedModel(file.path, vocabulary_only=True, needs_weights=False, wanted="generative", cancellation=flag)
        server: RemoteServer | None = None
        absence: RemoteError | None = None
        try:
            prompt_format = choose_prompt_format(settings.prompt_format, file, loaded.header)
            server = RemoteServer(address, loaded.vocabulary.n_tokens)
            decider = RemoteDecider(loaded, file.name, server, prompt_format, settings.generative.budget)
            try:
                decider.connect(table, flag)
            except RemoteError as exc:
                if not (is_second and exc.is_away):
                    raise
                absence = exc
        except BaseException:
            if server is not None:
                server.close()
            loaded.close()
            raise
        return decider, absence


def _open(
    file: ModelFile,
    settings: DeciderSettings,
    wanted: ModelKind | None,
    table: RouteTable,
    cancellation: Cancellation | None = None,
    *,
    must_fit: bool = True,
) -> Decider:
    with _stopped_at_the_end(cancellation or Cancellation()) as flag:
        return _load(file, settings, wanted, table, flag, must_fit)


def _load(
    file: ModelFile,
    settings: DeciderSettings,
    wanted: ModelKind | None,
    table: RouteTable,
    cancellation: Cancellation,
    must_fit: bool,
) -> Decider:
    generative = settings.generative
    n_gpu_layers = -1 if generative.n_gpu_layers is None else generative.n_gpu_layers
    choose = partial(
        _choose_engine, settings=generative, n_gpu_layers=n_gpu_layers, cancellation=cancellation, must_fit=must_fit
    )
    loaded = LoadedModel(file.path, n_gpu_layers=n_gpu_layers, wanted=wanted, engine=choose, cancellation=cancellation)
    try:
        cancellation.check()
        if loaded.kind == "generative":
            # Prompts, prefixes and decoding, with Jinja, are a third of what there is to import, and nothing to an encoder.
            from archroute_edge.deciders._generative import GenerativeDecider

            prompt_format = choose_prompt_format(settings.prompt_format, file, loaded.header)
            return GenerativeDecider(loaded, file.name, prompt_format, generative, table)
        _check_says_something(file, settings)
        return EncoderDecider(loaded, file.name, table, n_threads=generative.n_threads, vectors_folder=generative.prefix_folder)
    except BaseException:
        loaded.close()
        raise


def _choose_engine(
    header: GGUFHeader, settings: GenerativeSettings, n_gpu_layers: int, cancellation: Cancellation, must_fit: bool
) -> EngineName:
    choice = choose_engine(
        header,
        "llama.cpp" if settings.engine == "ik" and not must_fit and not fits_ik(header) else settings.engine,
        n_threads=settings.n_threads or physical_cores(),
        n_gpu_layers=n_gpu_layers,
        kv_type=settings.kv_type,
        flash_attention=settings.flash_attention,
        cancellation=cancellation,
    )
    logger.debug("%s is evaluated by %s: %s", header.path, choice.engine, choice.reason)
    return choice.engine


class _Opening:
    """A model that is being opened. At exit that is given up: llama.cpp calls back into Python, which ends."""

    def __init__(self, flag: Cancellation) -> None:
        self._flag = flag
        self._process = OwnProcess()
        self.done = threading.Event()

    def stop(self) -> None:
        """Have the opening given up."""
        self._flag.cancel()

    def wait_for_stop(self) -> None:
        """Wait until it was."""
        if self._process.is_this:
            self.done.wait()


@contextmanager
def _stopped_at_the_end(cancellation: Cancellation) -> Iterator[Cancellation]:
    """A flag that is set with ``cancellation``, and at exit, which then waits for the end of the block."""
    with cancellation.derived() as flag:
        opening = _Opening(flag)
        stop_at_the_end(opening)
        try:
            yield flag
        finally:
            opening.done.set()


def _check_says_something(file: ModelFile, settings: DeciderSettings) -> None:
    given: list[str] = [name for name in (*OF_A_CONTEXT, "budget") if name in settings.generative.given]
    given += ["prompt_format"] if settings.prompt_format != AUTO else []
    if given:
        raise SettingsError(
            f"{given[0]} is about a model that is given a prompt, and {file.name} is an encoder; "
            "leave it out, or name a generative model"
        )
