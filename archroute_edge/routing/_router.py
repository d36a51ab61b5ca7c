"""The one object that applications hold: messages in, a decision out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from archroute_edge.config import RoutingConfig, load_config
from archroute_edge.conversation import DEFAULT_BUDGET, Messages, read_messages
from archroute_edge.deciders import Calibration, Decider, DeciderLease, DecoderName, GenerativeSettings, find_models
from archroute_edge.decision import Decision, Warmup
from archroute_edge.engine import DEFAULT_KV_TYPE, Cancellation
from archroute_edge.errors import DecisionCancelledError, SettingsError
from archroute_edge.models import AUTO, ModelFile
from archroute_edge.routes import Route, RouteTable, as_table
from archroute_edge.routing._setting_limits import check_deadline, check_settings
from archroute_edge.system import cache_folder, expanded, quiet_at_the_end
from archroute_edge.targets import decide_many, fallback_decision, make_decision, no_text_decision


class Router:
    """Routes conversations. Loads its model when made; safe to call from many threads; close it, or use ``with``.

    Args:
        routes: the routes, or a :class:`RouteTable`; or give ``config``.
        config: routes, models and defaults, as :func:`archroute_edge.load_config` returns them.
        model: ``auto`` (Arch-Router where it is on this machine, else the bundled encoder ``mini``), a name from the
            catalogue (``mini``, ``arch-router``, ``arch-router:Q4_K_M``), or the path of a GGUF file. A cascade is written
            ``mini+arch-router``: the encoder decides where it is sure, and the language model, which is not even loaded
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
            the scores of all answers for it. Of a cascade it is the encoder's, and brings its switch-over.
        switch_over: of a cascade, the confidence from which on the encoder decides alone, 0 to 1; the calibration's
            unless given, or else the encoder's own.

    ``prompt_format``, ``decoder``, ``n_ctx``, ``budget``, ``flash_attention`` and ``kv_type`` are about language models;
    giving one for an encoder alone is an error.

    Raises:
        SettingsError: an argument makes no sense.
        CalibrationError: the calibration cannot be read, or was fitted for another model or prompt format.
        RouteTableError: the routes cannot be used together.
        ModelError: the model cannot be found, read or loaded.
        ContextOverflowError: the routes do not fit into the context.
    """

    @quiet_at_the_end()
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
        folder = None if prefix_cache is False else cache_folder() if prefix_cache is True else expanded(prefix_cache)
        generative = GenerativeSettings(decoder, n_ctx, threads, gpu_layers, budget, flash_attention, folder, kv_type)
        check_settings(generative, prompt_format, switch_over)
        self.config = config if config is not None else RoutingConfig(table=as_table(routes or ()))
        self.calibration = (
            calibration if calibration is None or isinstance(calibration, Calibration) else Calibration.load(calibration)
        )
        self.model_files = find_models(model)
        # Brings llama.cpp, which a program that only names this class, reads routes or prints help has no use for.
        from archroute_edge.deciders import DeciderSettings, open_decider

        settings = DeciderSettings(generative, prompt_format, switch_over, self.calibration)
        self._lease = DeciderLease(open_decider(self.model_files, settings, self.config.table))
        self.model_fingerprint = self._decider.model.fingerprint
        # A cascade calibrates its encoder's verdicts itself, since the switch-over is about calibrated ones.
        self._calibration = self.calibration if len(self.model_files) == 1 else None

    @classmethod
    def from_config(cls, path: str | os.PathLike[str], **settings: Any) -> Router:
        """A router for the configuration file at ``path``; ``settings`` as for :class:`Router`.

        Raises:
            ConfigError: the file cannot be used; the message names the line.
        """
        return cls(config=load_config(path), **settings)

    @quiet_at_the_end()
    def with_config(self, config: RoutingConfig) -> Router:
        """A router for another configuration over the model that is loaded already; each is closed on its own.

        Raises:
            ContextOverflowError: its routes do not fit into the context.
            EngineError: this router has been closed.
        """
        other = copy(self)
        other.config = config
        other._lease = self._lease.share()
        try:
            other._decider.check_table(config.table)
        except BaseException:
            other.close()
            raise
        return other

    @quiet_at_the_end()
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
        """Decide where ``messages`` belong. Without user text among them it is ``other``, and no model is asked.

        Args:
            messages: a user message, or a list of ``{"role", "content"}`` messages, oldest first.
            routes: other routes than the router's own, for this decision.
            scores: also give the probability of every route.
            key: names the conversation; keeps it on the same model where models share a route by weight.
            deadline: seconds from the call by which there is an answer: where deciding takes longer, ``other`` with the
                config's default model, or of a cascade the encoder's answer, and ``reason`` is ``deadline``.
            cancellation: a flag that stops the decision from another thread.

        Raises:
            SettingsError: ``deadline`` is no time.
            ConversationError: ``messages`` are malformed.
            RouteTableError: ``routes`` cannot be used together.
            ContextOverflowError: ``routes`` do not fit into the context.
            DecisionCancelledError: ``cancellation`` was set.
            EngineError: llama.cpp failed, or the router has been closed.
            ForkedProcessError: the router was made in the process that this one was forked from.
        """
        started = time.perf_counter()
        check_deadline(deadline)
        decider = self._decider
        with (cancellation or Cancellation()).until(deadline) as limit:
            turns = read_messages(messages)
            config = self._config_for(routes)
            if not turns:
                return no_text_decision(config, key)
            wanted = scores or self._calibration is not None
            try:
                # Routes that come with one message are not saved: many such would push out what is worth keeping.
                verdict = decider.decide(config.table, turns, scores=wanted, keep=routes is None, cancellation=limit)
            except DecisionCancelledError:
                if not limit.timed_out:
                    raise
                return fallback_decision(config, key, 1000 * (time.perf_counter() - started))
        return make_decision(config, self._calibration, verdict, key, scores)

    @quiet_at_the_end()
    def stand_in(
        self,
        messages: Messages,
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        scores: bool = False,
        key: str | None = None,
        time_limit: float | None = None,
    ) -> Decision:
        """What :meth:`route` answers where its deadline has passed: of a cascade the encoder's answer, else ``other``.

        The encoder may take ``time_limit`` seconds; all other arguments are those of :meth:`route`.
        """
        started = time.perf_counter()
        config = self._config_for(routes)
        turns = read_messages(messages)
        if not turns:
            return no_text_decision(config, key)
        verdict = None
        with suppress(DecisionCancelledError), Cancellation().until(time_limit) as limit:
            verdict = self._decider.stand_in(config.table, turns, scores=scores, cancellation=limit)
        if verdict is None:
            return fallback_decision(config, key, 1000 * (time.perf_counter() - started))
        return make_decision(config, self._calibration, verdict, key, scores)

    @quiet_at_the_end()
    def route_many(
        self,
        conversations: Sequence[Messages],
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        scores: bool = False,
        keys: Sequence[str | None] | None = None,
        cancellation: Cancellation | None = None,
    ) -> list[Decision]:
        """Decide on several conversations, as :meth:`route` does on each; an encoder evaluates them together.

        Args:
            conversations: what :meth:`route` takes, once for each.
            routes: other routes than the router's own, for all of them.
            scores: also give the probability of every route.
            keys: the name of each conversation, or none of any.
            cancellation: a flag that stops them all from another thread.

        Raises:
            SettingsError: not as many keys as conversations.
            ArchRouteError: as :meth:`route`, for any of them; none is then decided.
        """
        if keys is not None and len(keys) != len(conversations):
            raise SettingsError(f"there are {len(keys)} keys for {len(conversations)} conversations; give one for each")
        read = [read_messages(messages) for messages in conversations]
        config = self._config_for(routes)
        wanted = scores or self._calibration is not None
        return decide_many(
            config,
            read,
            [None] * len(read) if keys is None else keys,
            lambda turns: self._decider.decide_many(
                config.table, turns, scores=wanted, keep=routes is None, cancellation=cancellation
            ),
            lambda verdict, key: make_decision(config, self._calibration, verdict, key, scores),
        )

    @property
    def batch_size(self) -> int:
        """How many conversations are worth giving to :meth:`route_many` at once; 1 where they are decided one by one."""
        return self._decider.batch_size

    def _config_for(self, routes: Iterable[Route] | RouteTable | None) -> RoutingConfig:
        return self.config if routes is None else replace(self.config, table=as_table(routes))

    @quiet_at_the_end()
    def warm(
        self,
        messages: Messages | None = None,
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        cancellation: Cancellation | None = None,
    ) -> Warmup:
        """Evaluate ahead of time what a later decision begins with: of an encoder, the routes alone.

        Args:
            messages: a conversation whose last message may still be growing; None warms the routes alone.
            routes: other routes than the router's own.
            cancellation: a flag that stops it from another thread; what is finished by then is kept.

        Raises:
            DecisionCancelledError: ``cancellation`` was set.
            ArchRouteError: as :meth:`route`.
        """
        table = self.config.table if routes is None else as_table(routes)
        turns = None if messages is None else read_messages(messages) or None
        return self._decider.warm(table, turns, cancellation=cancellation)

    @property
    def model_file(self) -> ModelFile:
        """The model's file; of a cascade the encoder's, ``model_files`` has both."""
        return self.model_files[0]

    @property
    def decider(self) -> Decider:
        """What decides: its model, prompts and settings, for measuring them."""
        return self._lease.decider

    @property
    def _decider(self) -> Decider:
        return self._lease.decider

    @property
    def n_ctx(self) -> int:
        """Cells of the KV cache at present; 0 where there is none, as with an encoder."""
        return self._decider.n_ctx

    @property
    def n_evictions(self) -> int:
        """How many conversations and prefixes have given way to others in the KV cache."""
        return self._decider.n_evictions

    def close(self) -> None:
        """Free the model and its caches, unless a router of :meth:`with_config` uses them. Waits for a decision under way."""
        self._lease.close()

    def __enter__(self) -> Router:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()
