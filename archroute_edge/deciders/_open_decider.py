"""From model files to the decider that works with them: generative, encoder, or a cascade of both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from archroute_edge.deciders._cascade import CascadeDecider
from archroute_edge.deciders._decider import Decider
from archroute_edge.deciders._encoder import EncoderDecider
from archroute_edge.deciders._settings import CASCADE, NO_PROMPT, DeciderSettings, GenerativeSettings, choose_prompt_format
from archroute_edge.engine import Cancellation, LoadedModel, ModelKind
from archroute_edge.errors import SettingsError
from archroute_edge.models import AUTO, ModelFile
from archroute_edge.routes import RouteTable
from archroute_edge.system import OwnProcess, stop_at_the_end

_OF_A_PROMPT: Final = ("decoder", "n_ctx", "budget", "flash_attention", "kv_type")
"""Settings that say nothing to an encoder."""


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
    decider = _open_cascade(first, rest[0], settings, table) if rest else _open(first, settings, None, table)
    try:
        if settings.calibration is not None:
            settings.calibration.check(first.name, decider.model.fingerprint, _prompt_format(decider))
    except BaseException:
        decider.close()
        raise
    return decider


def _prompt_format(decider: Decider) -> str:
    if decider.model.kind == "encoder":
        return NO_PROMPT
    from archroute_edge.deciders._generative import GenerativeDecider

    assert isinstance(decider, GenerativeDecider)
    return decider.prompt.format.name


def _open_cascade(first: ModelFile, second: ModelFile, settings: DeciderSettings, table: RouteTable) -> Decider:
    # Settings about prompts are for the second model, which is opened when it is needed.
    plain = DeciderSettings(
        GenerativeSettings(
            n_threads=settings.generative.n_threads,
            n_gpu_layers=settings.generative.n_gpu_layers,
            prefix_folder=settings.generative.prefix_folder,
        )
    )
    encoder = _open(first, plain, "encoder", table)
    assert isinstance(encoder, EncoderDecider)
    stated = (settings.switch_over, settings.calibration.switch_over if settings.calibration else None)
    switch_over = next((each for each in stated if each is not None), encoder.scaling.switch_over)
    ask = partial(_open, second, settings, "generative")
    return CascadeDecider(encoder, ask, switch_over, settings.calibration)


def _open(
    file: ModelFile,
    settings: DeciderSettings,
    wanted: ModelKind | None,
    table: RouteTable,
    cancellation: Cancellation | None = None,
) -> Decider:
    with _stopped_at_the_end(cancellation or Cancellation()) as flag:
        return _load(file, settings, wanted, table, flag)


def _load(
    file: ModelFile, settings: DeciderSettings, wanted: ModelKind | None, table: RouteTable, cancellation: Cancellation
) -> Decider:
    generative = settings.generative
    n_gpu_layers = -1 if generative.n_gpu_layers is None else generative.n_gpu_layers
    loaded = LoadedModel(file.path, n_gpu_layers=n_gpu_layers, wanted=wanted, cancellation=cancellation)
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
    usual = GenerativeSettings()
    given = [name for name in _OF_A_PROMPT if getattr(settings.generative, name) != getattr(usual, name)]
    given += ["prompt_format"] if settings.prompt_format != AUTO else []
    if given:
        raise SettingsError(
            f"{given[0]} is about a model that is given a prompt, and {file.name} is an encoder; "
            "leave it out, or name a generative model"
        )
