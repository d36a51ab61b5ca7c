"""The one object that applications hold: messages in, a decision out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

from archroute_edge.calibration import Calibration
from archroute_edge.config import RoutingConfig, load_config
from archroute_edge.conversation import DEFAULT_BUDGET, Messages, read_messages
from archroute_edge.deciders.generative import DecoderName, GenerativeDecider, GenerativeSettings
from archroute_edge.decision import Decision, Warmup
from archroute_edge.engine.completion import DEFAULT_KV_TYPE, KV_TYPES, is_quantized_kv
from archroute_edge.engine.gguf_header import GGUFHeader
from archroute_edge.engine.loaded_model import LoadedModel
from archroute_edge.errors import PromptFormatError, SettingsError
from archroute_edge.model_selection import select_models
from archroute_edge.model_store import AUTO, ModelFile, find_model
from archroute_edge.prompt_formats import PromptFormat
from archroute_edge.prompt_formats import prompt_format as find_prompt_format
from archroute_edge.routes import OTHER, Route, RouteTable
from archroute_edge.saved_prefixes import default_folder

_FORMAT_KEY = "archroute.prompt_format"

# Least and most of what an option may be. llama.cpp keeps 32 bits of n_ctx, and OpenMP ends the process where it cannot
# start as many threads as it is told to.
N_CTX_LIMITS = (1, 1 << 24)
THREADS_LIMITS = (1, 512)
GPU_LAYERS_LIMITS = (-1, 1 << 16)
BUDGET_LIMITS = (64, 1 << 24)


class Router:
    """Routes conversations. Loads its model when made; safe to call from many threads; close it, or use ``with``.

    Args:
        routes: the routes, or a :class:`RouteTable`; or give ``config``.
        config: routes, models and defaults, as :func:`archroute_edge.load_config` returns them.
        model: ``auto`` (Arch-Router where it is on this machine, else the bundled model), a name from the catalogue
            (``tiny``, ``arch-router``, ``arch-router:Q4_K_M``), or the path of a GGUF file.
        prompt_format: ``card``, ``gateway`` or ``orchestrator``; ``auto`` takes the model's own: what the catalogue
            states, then the GGUF's metadata (``archroute.prompt_format``), then ``card``.
        decoder: ``fast``, or ``grammar`` for llama.cpp's own grammar sampler; both give the same route.
        n_ctx: cells of the KV cache; sized from the routes unless given.
        threads: threads for evaluation; the physical cores unless given.
        gpu_layers: layers on the GPU; all of them unless given, where this build of llama.cpp has one.
        budget: tokens of conversation that a prompt holds; the oldest turns are left out beyond it.
        flash_attention: whether llama.cpp's flash attention is used; chosen as measured unless given.
        kv_type: number type of the KV cache: ``f16``, or for instance ``q8_0`` for about half the memory, which is
            computed with flash attention only.
        prefix_cache: whether static prefixes are kept on disk, or the folder to keep them in.
        calibration: what ``archroute calibrate`` fitted for this model, or its file. Confidence and scores are then the
            calibrated ones, and a route below the calibration's bound gives way to ``other``. Every decision evaluates
            the scores of all answers for it.

    Raises:
        SettingsError: an argument makes no sense.
        CalibrationError: the calibration cannot be read, or was fitted for another model or prompt format.
        RouteTableError: the routes cannot be used together.
        ModelError: the model cannot be found, read or loaded.
        ContextOverflowError: the routes do not fit into the context.
    """

    def __init__(
        self,
        routes: Iterable[Route] | RouteTable | None = None,
        *,
        config: RoutingConfig | None = None,
        model: str | Path = AUTO,
        prompt_format: str = AUTO,
        decoder: DecoderName = "fast",
        n_ctx: int | None = None,
        threads: int | None = None,
        gpu_layers: int | None = None,
        budget: int = DEFAULT_BUDGET,
        flash_attention: bool | None = None,
        kv_type: str = DEFAULT_KV_TYPE,
        prefix_cache: bool | str | os.PathLike[str] = True,
        calibration: Calibration | str | os.PathLike[str] | None = None,
    ) -> None:
        if (routes is None) == (config is None):
            raise SettingsError("give the router either routes or a config")
        if decoder not in get_args(DecoderName):
            raise SettingsError(f"no decoder {decoder!r}; there are {', '.join(get_args(DecoderName))}")
        for name, value, (least, most) in (
            ("n_ctx", n_ctx, N_CTX_LIMITS),
            ("threads", threads, THREADS_LIMITS),
            ("gpu_layers", gpu_layers, GPU_LAYERS_LIMITS),
            ("budget", budget, BUDGET_LIMITS),
        ):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most):
                raise SettingsError(f"{name} is {value!r}; it must be a whole number from {least} to {most}")
        if kv_type not in KV_TYPES:
            raise SettingsError(f"no KV cache type {kv_type!r}; there are {', '.join(KV_TYPES)}")
        if flash_attention is False and is_quantized_kv(kv_type):
            raise SettingsError(f"a KV cache of {kv_type} needs flash attention; turn it on, or use f16, bf16 or f32")
        self.config = config if config is not None else RoutingConfig(table=as_table(routes or ()))
        self.calibration = (
            calibration if calibration is None or isinstance(calibration, Calibration) else Calibration.load(calibration)
        )
        self.model_file = find_model(model)
        folder = (
            None if prefix_cache is False else default_folder() if prefix_cache is True else Path(prefix_cache).expanduser()
        )
        settings = GenerativeSettings(decoder, n_ctx, threads, gpu_layers, budget, flash_attention, folder, kv_type)
        if prompt_format != AUTO:
            find_prompt_format(prompt_format)
        loaded = LoadedModel(self.model_file.path, n_gpu_layers=-1 if gpu_layers is None else gpu_layers)
        try:
            self.prompt_format = choose_prompt_format(prompt_format, self.model_file, loaded.header)
            self.model_fingerprint = loaded.fingerprint
            if self.calibration is not None:
                self.calibration.check(self.model_file.name, loaded.fingerprint, self.prompt_format.name)
            self._decider = GenerativeDecider(loaded, self.prompt_format, settings, self.config.table)
        except BaseException:
            loaded.close()
            raise

    @classmethod
    def from_config(cls, path: str | os.PathLike[str], **settings: Any) -> Router:
        """A router for the configuration file at ``path``; ``settings`` as for :class:`Router`.

        Raises:
            ConfigError: the file cannot be used; the message names the line.
        """
        return cls(config=load_config(path), **settings)

    def route(
        self,
        messages: Messages,
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        scores: bool = False,
        key: str | None = None,
    ) -> Decision:
        """Decide where ``messages`` belong.

        Args:
            messages: a user message, or a list of ``{"role", "content"}`` messages, oldest first.
            routes: other routes than the router's own, for this decision.
            scores: also give the probability of every route.
            key: names the conversation; keeps it on the same model where models share a route by weight.

        Raises:
            ConversationError: there is nothing to route in ``messages``.
            RouteTableError: ``routes`` cannot be used together.
            ContextOverflowError: ``routes`` do not fit into the context.
            EngineError: llama.cpp failed, or the router has been closed.
        """
        turns = read_messages(messages)
        config = self.config if routes is None else replace(self.config, table=as_table(routes))
        # Routes that come with one message are not saved: a batch of different ones would push out what is worth keeping.
        calibration = self.calibration
        verdict = self._decider.decide(config.table, turns, scores=scores or calibration is not None, keep=routes is None)
        route, confidence, found, reason = verdict.route, verdict.confidence, verdict.scores, None
        if calibration is not None:
            assert found is not None
            answer = calibration.apply(route, found)
            route, confidence, found, reason = answer.route, answer.confidence, answer.scores, answer.reason
        chosen = select_models(config, route, key=key)
        return Decision(
            route=route,
            matched=route != OTHER,
            model=chosen.first,
            models=chosen.models,
            confidence=confidence,
            scores=found if scores else None,
            tokens=verdict.tokens,
            timings=verdict.timings,
            trimmed=bool(verdict.dropped_turns or verdict.cut_turns),
            dropped_turns=verdict.dropped_turns,
            cut_turns=verdict.cut_turns,
            decided_by=self.model_file.name,
            prompt_format=self.prompt_format.name,
            reason=reason,
        )

    def warm(self, messages: Messages | None = None, *, routes: Iterable[Route] | RouteTable | None = None) -> Warmup:
        """Evaluate ahead of time what a later decision begins with.

        Args:
            messages: a conversation whose last message may still be growing; None warms the routes alone.
            routes: other routes than the router's own.
        """
        table = self.config.table if routes is None else as_table(routes)
        return self._decider.warm(table, None if messages is None else read_messages(messages))

    @property
    def decider(self) -> GenerativeDecider:
        """What decides: its model, prompts and settings, for measuring them."""
        return self._decider

    @property
    def n_ctx(self) -> int:
        """Cells of the KV cache at present."""
        return self._decider.n_ctx

    def close(self) -> None:
        """Free the model and its caches. Waits for a decision that is under way."""
        self._decider.close()

    def __enter__(self) -> Router:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()


def as_table(routes: Iterable[Route] | RouteTable) -> RouteTable:
    """``routes`` as a validated table."""
    return routes if isinstance(routes, RouteTable) else RouteTable(routes)


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
