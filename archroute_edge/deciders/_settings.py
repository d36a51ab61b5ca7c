"""Which models a name stands for, how they are told to work, and what tells one from any other; nothing is loaded here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from archroute_edge.conversation import DEFAULT_BUDGET
from archroute_edge.engine import DEFAULT_KV_TYPE, GGUFHeader, WantedEngine, check_model_file, model_fingerprint, model_kind
from archroute_edge.errors import PromptFormatError, SettingsError
from archroute_edge.models import AUTO, ModelFile, RemoteAddress, find_model, is_remote
from archroute_edge.prompts import PromptFormat
from archroute_edge.prompts import prompt_format as find_prompt_format
from archroute_edge.system import expanded, is_file_here

if TYPE_CHECKING:
    from archroute_edge.deciders._calibration import Calibration

DecoderName = Literal["fast", "grammar"]

CASCADE: Final = "+"
"""Stands between the names of an encoder and of the language model that decides if the encoder is not sure."""

NO_PROMPT: Final = "none"
"""Stands in the place of a prompt format for an encoder."""

OF_A_CONTEXT: Final = ("decoder", "n_ctx", "flash_attention", "kv_type")
"""Settings of a language model on this machine; with ``budget`` and the prompt format, those that say nothing to an encoder."""

_FORMAT_KEY: Final = "archroute.prompt_format"


@dataclass(frozen=True)
class GenerativeSettings:
    """How a generative decider works. None means: fit to the model and the machine.

    Args:
        decoder: ``fast``, or ``grammar`` for llama.cpp's own sampler.
        n_ctx: cells of the KV cache.
        n_threads: threads for evaluation; the physical cores by default.
        n_gpu_layers: layers on the GPU; by default all, if the build has one.
        budget: tokens of conversation in a prompt.
        flash_attention: by default on for short static prefixes and off for long ones, as measured.
        prefix_folder: where static prefixes are saved; None saves none.
        kv_type: number type of the KV cache; quantized types need flash attention and turn it on.
        engine: the library that evaluates the model, one of :data:`archroute_edge.engine.ENGINES`.
        given: the names of those that a user has stated, also as they are by default.
    """

    decoder: DecoderName = "fast"
    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int | None = None
    budget: int = DEFAULT_BUDGET
    flash_attention: bool | None = None
    prefix_folder: Path | None = None
    kv_type: str = DEFAULT_KV_TYPE
    engine: WantedEngine = "auto"
    given: frozenset[str] = frozenset()


@dataclass(frozen=True)
class DeciderSettings:
    """What the router was told beyond the models' names.

    Args:
        generative: how a language model works; an encoder takes threads, GPU layers and the folder from it.
        prompt_format: how a language model is asked; ``auto`` is what it was trained on.
        switch_over: the confidence from which a cascade leaves the decision to the encoder; None is the calibration's, if
            it has one, else the encoder's own.
        calibration: the model's, or the encoder's in a cascade.
    """

    generative: GenerativeSettings
    prompt_format: str = AUTO
    switch_over: float | None = None
    calibration: Calibration | None = None


def find_models(name: str | Path | ModelFile) -> tuple[ModelFile, ...]:
    """The files that ``name`` stands for: one model, or two for ``ENCODER+MODEL``. Their content is not read.

    A file that was found already is that one.

    Raises:
        SettingsError: more than two names.
        ModelNotFoundError: no such name, or no such file here.
    """
    if isinstance(name, ModelFile):
        return (name,)
    if isinstance(name, Path) or CASCADE not in name or is_remote(name) or is_file_here(expanded(name)):
        return (find_model(name),)
    first, *rest = name.split(CASCADE)
    # An address may have the sign in it.
    is_address = rest and is_remote(rest[0].strip())
    parts = [part.strip() for part in (first, *([CASCADE.join(rest)] if is_address else rest))]
    if len(parts) != 2 or not all(parts):
        raise SettingsError(f"{name!r}: a cascade is written ENCODER{CASCADE}MODEL, such as encoder.gguf{CASCADE}arch-router")
    return tuple(find_model(part) for part in parts)


def settings_without_meaning(files: tuple[ModelFile, ...]) -> frozenset[str]:
    """The arguments of :class:`archroute_edge.Router` that say nothing to these models, and are refused when they are opened.

    Raises:
        ModelError: a file is no usable GGUF.
    """
    is_cascade, last = len(files) > 1, files[-1]
    names = [] if is_cascade else ["switch_over"]
    if last.remote is not None:
        # Of a cascade these are the encoder's.
        names += [*OF_A_CONTEXT, *(() if is_cascade else ("threads", "gpu_layers", "engine"))]
    elif not is_cascade and model_kind(check_model_file(last.path)) == "encoder":
        names += [*OF_A_CONTEXT, "budget", "prompt_format"]
    return frozenset(names)


@dataclass(frozen=True)
class Identity:
    """What tells a decider from any other: the files' fingerprints, and how a language model is asked.

    ``first`` is what a calibration must match: a cascade's encoder, else the same.
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
    headers = [check_model_file(file.path, needs_weights=file.remote is None) for file in files]
    asked = [
        choose_prompt_format(prompt_format, file, header).name
        for file, header in zip(files, headers, strict=True)
        if model_kind(header) == "generative"
    ]
    fingerprints = [fingerprint(file, header) for file, header in zip(files, headers, strict=True)]
    whole = CASCADE.join(file.name for file in files), CASCADE.join(fingerprints), asked[0] if asked else NO_PROMPT
    return Identity(*whole, Identity(files[0].name, fingerprints[0], NO_PROMPT if len(files) > 1 else whole[2]))


def fingerprint(file: ModelFile, header: GGUFHeader) -> str:
    """What tells a model from others: of a file its content, of a remote model its name."""
    return model_fingerprint(header) if file.remote is None else remote_fingerprint(file.remote, file.path)


def remote_fingerprint(address: RemoteAddress, vocabulary: Path) -> str:
    """What tells a remote model from others, wherever it is served and whichever level of it the vocabulary was read from."""
    return hashlib.sha256(f"remote model {address.model or vocabulary.name}".encode()).hexdigest()


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
