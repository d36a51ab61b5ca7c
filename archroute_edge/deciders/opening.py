"""From what a user calls a model to the decider that works with it: generative, encoder, or a cascade of both."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from archroute_edge.calibration import Calibration
from archroute_edge.deciders.cascade import CascadeDecider
from archroute_edge.deciders.encoder import EncoderDecider
from archroute_edge.deciders.generative import GenerativeDecider
from archroute_edge.deciders.interface import Decider
from archroute_edge.deciders.table_context import GenerativeSettings
from archroute_edge.engine.cancellation import Cancellation
from archroute_edge.engine.gguf_header import GGUFHeader
from archroute_edge.engine.loaded_model import LoadedModel
from archroute_edge.engine.model_check import ModelKind, check_model_file, model_fingerprint, model_kind
from archroute_edge.errors import PromptFormatError, SettingsError
from archroute_edge.model_store import AUTO, ModelFile, find_model
from archroute_edge.prompt_formats import PromptFormat
from archroute_edge.prompt_formats import prompt_format as find_prompt_format
from archroute_edge.routes import RouteTable

logger = logging.getLogger(__name__)

CASCADE: Final = "+"
"""Stands between the names of an encoder and of the language model that it asks where it is not sure."""

NO_PROMPT: Final = "none"
"""Stands in the place of a prompt format for an encoder."""

_FORMAT_KEY: Final = "archroute.prompt_format"
_OF_A_PROMPT: Final = ("decoder", "n_ctx", "budget", "flash_attention", "kv_type")
"""Settings that say nothing to an encoder."""


@dataclass(frozen=True)
class DeciderSettings:
    """What the router was told beyond the models' names.

    Args:
        generative: how a language model works; an encoder takes threads, GPU layers and the folder from it.
        prompt_format: how a language model is asked; ``auto`` is what it was trained on.
        switch_over: the confidence from which on a cascade leaves the decision to the encoder; None is that of the
            calibration, if it has one, else the encoder's own.
        calibration: of the model, of a cascade the encoder's.
    """

    generative: GenerativeSettings
    prompt_format: str = AUTO
    switch_over: float | None = None
    calibration: Calibration | None = None


def find_models(name: str | Path) -> tuple[ModelFile, ...]:
    """The files that ``name`` stands for: one model, or for ``ENCODER+MODEL`` two. Of their content nothing is read.

    Raises:
        SettingsError: more than two names.
        ModelNotFoundError: no such name, or no such file here.
    """
    if isinstance(name, Path) or CASCADE not in name or Path(name).expanduser().is_file():
        return (find_model(name),)
    parts = [part.strip() for part in name.split(CASCADE)]
    if len(parts) != 2 or not all(parts):
        raise SettingsError(f"{name!r}: a cascade is written ENCODER{CASCADE}MODEL, such as encoder.gguf{CASCADE}arch-router")
    return tuple(find_model(part) for part in parts)


def open_decider(files: tuple[ModelFile, ...], settings: DeciderSettings, table: RouteTable) -> Decider:
    """Load the model, of a cascade the encoder, and get ready for ``table``.

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
            prompt_format = decider.prompt.format.name if isinstance(decider, GenerativeDecider) else NO_PROMPT
            settings.calibration.check(first.name, decider.model.fingerprint, prompt_format)
    except BaseException:
        decider.close()
        raise
    return decider


def _open_cascade(first: ModelFile, second: ModelFile, settings: DeciderSettings, table: RouteTable) -> Decider:
    # What is said of prompts is said to the second model, which is opened when it is needed.
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
    generative = settings.generative
    n_gpu_layers = -1 if generative.n_gpu_layers is None else generative.n_gpu_layers
    loaded = LoadedModel(file.path, n_gpu_layers=n_gpu_layers, wanted=wanted, cancellation=cancellation)
    try:
        if loaded.kind == "generative":
            prompt_format = choose_prompt_format(settings.prompt_format, file, loaded.header)
            return GenerativeDecider(loaded, file.name, prompt_format, generative, table)
        _check_says_something(file, settings)
        return EncoderDecider(loaded, file.name, table, n_threads=generative.n_threads, vectors_folder=generative.prefix_folder)
    except BaseException:
        loaded.close()
        raise


def _check_says_something(file: ModelFile, settings: DeciderSettings) -> None:
    usual = GenerativeSettings()
    given = [name for name in _OF_A_PROMPT if getattr(settings.generative, name) != getattr(usual, name)]
    given += ["prompt_format"] if settings.prompt_format != AUTO else []
    if given:
        raise SettingsError(
            f"{given[0]} is about a model that is given a prompt, and {file.name} is an encoder; "
            "leave it out, or name a generative model"
        )


@dataclass(frozen=True)
class Identity:
    """What tells a decider from any other: the files' fingerprints, and how a language model is asked.

    ``first`` is what a calibration is held against: of a cascade its encoder, else the same.
    """

    name: str
    fingerprint: str
    prompt_format: str
    first: Identity | None = None


def identify(files: tuple[ModelFile, ...], prompt_format: str) -> Identity:
    """Who would decide, found without loading anything.

    Raises:
        ModelError: a file is no usable GGUF.
        PromptFormatError: there is no such format.
    """
    headers = [check_model_file(file.path) for file in files]
    asked = [
        choose_prompt_format(prompt_format, file, header).name
        for file, header in zip(files, headers, strict=True)
        if model_kind(header) == "generative"
    ]
    fingerprints = [model_fingerprint(header) for header in headers]
    whole = CASCADE.join(file.name for file in files), CASCADE.join(fingerprints), asked[0] if asked else NO_PROMPT
    return Identity(*whole, Identity(files[0].name, fingerprints[0], NO_PROMPT if len(files) > 1 else whole[2]))


def choose_prompt_format(name: str, model_file: ModelFile, header: GGUFHeader) -> PromptFormat:
    """The format called ``name``; for ``auto`` the model's: the catalogue's word, then the GGUF's, then ``card``.

    Raises:
        PromptFormatError: there is none of that name.
    """
    if name != AUTO:
        return find_prompt_format(name)
    stated = model_file.prompt_format or header.text(_FORMAT_KEY) or "card"
    try:
        return find_prompt_format(stated)
    except PromptFormatError as exc:
        raise PromptFormatError(f"{header.path}: {_FORMAT_KEY}: {exc}; choose one of them yourself") from exc
