"""The one object that applications hold: messages in, a decision out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

from archroute_edge.calibration import Calibration
from archroute_edge.config import RoutingConfig, load_config
from archroute_edge.conversation import DEFAULT_BUDGET, Messages, read_messages
from archroute_edge.deciders.generative import DecoderName, GenerativeSettings
from archroute_edge.deciders.interface import Decider
from archroute_edge.deciders.opening import DeciderSettings, check_calibration, find_models, open_decider
from archroute_edge.decision import Decision, Verdict, Warmup
from archroute_edge.engine.cancellation import Cancellation
from archroute_edge.engine.completion import DEFAULT_KV_TYPE, KV_TYPES, is_quantized_kv
from archroute_edge.errors import SettingsError
from archroute_edge.model_selection import select_models
from archroute_edge.model_store import AUTO, ModelFile
from archroute_edge.prompt_formats import prompt_format as find_prompt_format
from archroute_edge.routes import OTHER, Route, RouteTable
from archroute_edge.saved_prefixes import default_folder

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
        model: ``auto`` (Arch-Router where it is on this machine, else the bundled model), a name from the
            catalogue (``tiny``, ``arch-router``, ``arch-router:Q4_K_M``), or the path of a GGUF file. A cascade is written
            ``encoder.gguf+arch-router``: the encoder decides where it is sure, and the language model, which is not even loaded
            before it is needed, where it is not.
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
        prefix_cache: whether static prefixes and route vectors are kept on disk, or the folder to keep them in.
        calibration: what ``archroute calibrate`` fitted for this model, or its file. Confidence and scores are then the
            calibrated ones, and a route below the calibration's bound gives way to ``other``. Every decision evaluates
            the scores of all answers for it.
        switch_over: of a cascade, the confidence from which on the encoder decides alone, 0 to 1; the encoder's own
            unless given.

    ``prompt_format``, ``decoder``, ``n_ctx``, ``budget``, ``flash_attention`` and ``kv_type`` are about language models;
    giving one for an encoder alone is an error.

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
        switch_over: float | None = None,
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
        if switch_over is not None and (isinstance(switch_over, bool) or not 0 <= switch_over <= 1):
            raise SettingsError(f"switch_over is {switch_over!r}; it must be a number from 0 to 1")
        self.config = config if config is not None else RoutingConfig(table=as_table(routes or ()))
        self.calibration = (
            calibration if calibration is None or isinstance(calibration, Calibration) else Calibration.load(calibration)
        )
        self.model_files = find_models(model)
        folder = (
            None if prefix_cache is False else default_folder() if prefix_cache is True else Path(prefix_cache).expanduser()
        )
        generative = GenerativeSettings(decoder, n_ctx, threads, gpu_layers, budget, flash_attention, folder, kv_type)
        if prompt_format != AUTO:
            find_prompt_format(prompt_format)
        settings = DeciderSettings(generative, prompt_format, switch_over)
        self._decider = open_decider(self.model_files, settings, self.config.table)
        self.model_fingerprint = self._decider.model.fingerprint
        try:
            if self.calibration is not None:
                check_calibration(self.calibration, self.model_files, self._decider)
        except BaseException:
            self._decider.close()
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
        deadline: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> Decision:
        """Decide where ``messages`` belong.

        Args:
            messages: a user message, or a list of ``{"role", "content"}`` messages, oldest first.
            routes: other routes than the router's own, for this decision.
            scores: also give the probability of every route.
            key: names the conversation; keeps it on the same model where models share a route by weight.
            deadline: seconds from the call by which there is an answer: where deciding takes longer, ``other`` with the
                config's default model, or of a cascade the encoder's answer, and ``reason`` is ``deadline``.
            cancellation: a flag that stops the decision from another thread.

        Raises:
            DecisionCancelledError: ``cancellation`` was set.
            ConversationError: there is nothing to route in ``messages``.
            RouteTableError: ``routes`` cannot be used together.
            ContextOverflowError: ``routes`` do not fit into the context.
            EngineError: llama.cpp failed, or the router has been closed.
        """
        if cancellation is not None:
            cancellation.check()
        turns = read_messages(messages)
        config = self._config_for(routes)
        # Routes that come with one message are not saved: a batch of different ones would push out what is worth keeping.
        verdict = self._decider.decide(config.table, turns, scores=scores or self.calibration is not None, keep=routes is None)
        return self._decision(config, verdict, key, scores)

    def route_many(
        self,
        conversations: Sequence[Messages],
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        scores: bool = False,
        keys: Sequence[str | None] | None = None,
    ) -> list[Decision]:
        """Decide on several conversations, as :meth:`route` does on each; an encoder evaluates them together.

        Args:
            conversations: what :meth:`route` takes, once for each.
            routes: other routes than the router's own, for all of them.
            scores: also give the probability of every route.
            keys: the name of each conversation, or none of any.

        Raises:
            SettingsError: not as many keys as conversations.
            ArchRouteError: as :meth:`route`, for any of them; none is then decided.
        """
        if keys is not None and len(keys) != len(conversations):
            raise SettingsError(f"there are {len(keys)} keys for {len(conversations)} conversations; give one for each")
        read = [read_messages(messages) for messages in conversations]
        config = self._config_for(routes)
        wanted = scores or self.calibration is not None
        verdicts = self._decider.decide_many(config.table, read, scores=wanted, keep=routes is None)
        return [
            self._decision(config, verdict, key, scores)
            for verdict, key in zip(verdicts, keys or [None] * len(verdicts), strict=True)
        ]

    @property
    def batch_size(self) -> int:
        """How many conversations are worth giving to :meth:`route_many` at once; 1 where they are decided one by one."""
        return self._decider.batch_size

    def _config_for(self, routes: Iterable[Route] | RouteTable | None) -> RoutingConfig:
        return self.config if routes is None else replace(self.config, table=as_table(routes))

    def _decision(self, config: RoutingConfig, verdict: Verdict, key: str | None, scores: bool) -> Decision:
        """The decision that a verdict comes to, with its calibration and the models of its route."""
        route, confidence, found, reason = verdict.route, verdict.confidence, verdict.scores, None
        if self.calibration is not None:
            assert found is not None
            answer = self.calibration.apply(route, found)
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
            decided_by=verdict.decided_by,
            prompt_format=verdict.prompt_format,
            reason=reason,
        )

    def warm(self, messages: Messages | None = None, *, routes: Iterable[Route] | RouteTable | None = None) -> Warmup:
        """Evaluate ahead of time what a later decision begins with: of an encoder, the routes alone.

        Args:
            messages: a conversation whose last message may still be growing; None warms the routes alone.
            routes: other routes than the router's own.
        """
        table = self.config.table if routes is None else as_table(routes)
        return self._decider.warm(table, None if messages is None else read_messages(messages))

    @property
    def model_file(self) -> ModelFile:
        """The model's file; of a cascade the encoder's, ``model_files`` has both."""
        return self.model_files[0]

    @property
    def decider(self) -> Decider:
        """What decides: its model, prompts and settings, for measuring them."""
        return self._decider

    @property
    def n_ctx(self) -> int:
        """Cells of the KV cache at present; 0 where there is none, as with an encoder."""
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
