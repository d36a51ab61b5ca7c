"""The one object that applications hold: messages in, a decision out."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Future, wait
from copy import copy
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from archroute_edge.config import RoutingConfig, load_config
from archroute_edge.conversation import Conversation, Messages, read_messages
from archroute_edge.deciders import Calibration, Decider, DeciderSettings, DecoderName, find_models
from archroute_edge.decision import Decision, Warmup
from archroute_edge.engine import Cancellation, WantedEngine
from archroute_edge.errors import EngineError
from archroute_edge.models import AUTO, ModelFile
from archroute_edge.routes import Route, RouteTable, as_table
from archroute_edge.routing._argument_types import check_asking, check_config, read_key, read_keys, read_sources
from archroute_edge.routing._decisions import decisions_on, quality_for
from archroute_edge.routing._questions import Question, WarmUp, read_many
from archroute_edge.routing._queues import let_alarms_go_on
from archroute_edge.routing._scheduler import Scheduler
from archroute_edge.routing._setting_limits import check_settings, check_warm_up, read_deadline, stated_settings
from archroute_edge.system import quiet_at_the_end
from archroute_edge.targets import QualityPolicies, RequestFacts, decisions_by_tables

if TYPE_CHECKING:
    from archroute_edge.routing._account import Account


class Router:
    """Routes conversations. Loads its model when made; safe to call from many threads; close it, or use ``with``.

    Args:
        routes: the routes, or a :class:`RouteTable`; or give ``config``.
        config: routes, models and defaults, as :func:`archroute_edge.load_config` returns them.
        model: ``auto`` (Arch-Router if it is on this machine, else the bundled encoder ``mini``), a name from the
            catalogue (``mini``, ``arch-router``, ``arch-router:Q4_K_M``), or the path of a GGUF file. ``mini+arch-router``
            is a cascade: the encoder decides if it is sure, else the language model, which is loaded when it is first needed.
            ``http://gpu-box:8000#katanemo/Arch-Router-1.5B`` is a model that a vLLM, SGLang or llama-server there serves.
            Or a file that :mod:`archroute_edge.models` has found.
        prompt_format: ``card``, ``gateway`` or ``orchestrator``; ``auto`` takes the model's own: what the catalogue
            states, then the GGUF's metadata (``archroute.prompt_format``), then ``card``.
        decoder: ``fast``, the default, or ``grammar`` for llama.cpp's own grammar sampler; both give the same route.
        n_ctx: cells of the KV cache; sized from the routes unless given.
        threads: threads for evaluation; the physical cores unless given.
        gpu_layers: layers on the GPU; by default all of them, if this build of llama.cpp has one.
        budget: tokens of conversation in a prompt, 2,048 by default; the oldest turns beyond it are left out.
        flash_attention: whether to use llama.cpp's flash attention; chosen as measured unless given.
        kv_type: number type of the KV cache: ``f16``, the default, or for instance ``q8_0``, which takes about half the
            memory and needs flash attention.
        engine: the library that evaluates the model: ``llama.cpp``, ``ik`` (ik_llama.cpp, an extra), or ``auto``, which takes
            ik_llama.cpp where it is installed, computes right here and was measured to be faster on this model.
        prefix_cache: whether static prefixes and route vectors are kept on disk, or the folder to keep them in.
        calibration: what ``archroute calibrate`` fitted for this model, or its file. Confidence and scores are then the
            calibrated ones, and a route below the calibration's bound gives way to ``other``. Every decision then
            evaluates the scores of all answers. A cascade takes its encoder's calibration, with its switch-over.
        switch_over: the confidence, 0 to 1, from which the encoder of a cascade decides alone; by default the
            calibration's, else the encoder's own.

    ``prompt_format``, ``decoder``, ``n_ctx``, ``budget``, ``flash_attention`` and ``kv_type`` are about language models;
    giving one but ``auto`` for an encoder alone is an error.

    Raises:
        SettingsError: an argument makes no sense.
        ConfigError: a predictor that ``config`` names cannot be used.
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
        model: str | Path | ModelFile = AUTO,
        prompt_format: str = AUTO,
        decoder: DecoderName | None = None,
        n_ctx: int | None = None,
        threads: int | None = None,
        gpu_layers: int | None = None,
        budget: int | None = None,
        flash_attention: bool | None = None,
        kv_type: str | None = None,
        engine: WantedEngine = "auto",
        prefix_cache: bool | str | os.PathLike[str] = True,
        calibration: Calibration | str | os.PathLike[str] | None = None,
        switch_over: float | None = None,
    ) -> None:
        folder, self.calibration = read_sources(routes, config, model, prefix_cache, calibration)
        generative = stated_settings(decoder, n_ctx, threads, gpu_layers, budget, flash_attention, folder, kv_type, engine)
        switch_over = check_settings(generative, prompt_format, switch_over)
        self.config = config if config is not None else RoutingConfig(table=as_table(routes or ()))
        self.model_files = find_models(model)
        policies = QualityPolicies(self.config)
        # Brings llama.cpp, which a program that only names this class, reads routes or prints help has no use for.
        from archroute_edge.deciders import open_decider

        settings = DeciderSettings(generative, prompt_format, switch_over, self.calibration)
        decider = open_decider(self.model_files, settings, self.config.table)
        self._n_threads = generative.n_threads
        try:
            self._quality = quality_for(policies, decider, self._n_threads, None)
        except BaseException:
            decider.close()
            raise
        self._hold(Scheduler(decider))
        self.model_fingerprint = self._decider.model.fingerprint
        # A cascade calibrates its encoder's verdicts itself, since the switch-over is about calibrated ones.
        self._calibration = self.calibration if len(self.model_files) == 1 else None

    def _hold(self, scheduler: Scheduler) -> None:
        """Share ``scheduler`` until this is closed, or dropped."""
        self.scheduler = scheduler
        """Decides whose turn it is."""
        self._dropped = weakref.finalize(self, scheduler.release)
        # At exit what evaluates is stopped anyway.
        self._dropped.atexit = False

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
            ConfigError: a predictor that it names cannot be used.
            ContextOverflowError: its routes do not fit into the context.
            EngineError: this router has been closed.
        """
        check_config(config)
        decider = self._decider
        # First: this router may be closed meanwhile, and the model stays until the new one is closed, too.
        self.scheduler.share()
        other = copy(self)
        other._hold(self.scheduler)
        try:
            decider.check_table(config.table)
            other.config = config
            other._quality = quality_for(QualityPolicies(config), decider, self._n_threads, self._quality)
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
        key: str | int | UUID | None = None,
        deadline: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> Decision:
        """Decide where ``messages`` belong. Messages without user text are ``other``, and no model is asked.

        Args:
            messages: a user message, or a list of ``{"role", "content"}`` messages, oldest first.
            routes: other routes than the router's own, for this decision.
            scores: also give the probability of every route.
            key: names the conversation; keeps it on the same model if models share a route by weight. A whole number or a
                UUID counts as its text.
            deadline: seconds from the call by which there is an answer. If deciding takes longer, that is ``other`` with the
                config's default model, or the encoder's answer in a cascade, and ``reason`` is ``deadline``.
            cancellation: a flag that stops the decision from another thread.

        Raises:
            SettingsError: ``deadline`` is no time.
            ConversationError: ``messages`` are malformed.
            RouteTableError: ``routes`` cannot be used together.
            ContextOverflowError: ``routes`` do not fit into the context.
            DecisionCancelledError: ``cancellation`` was set.
            EngineError: llama.cpp failed, or the router has been closed.
            RemoteError: the server with the model gave no answer.
            ForkedProcessError: the router was made in the process that this one was forked from.
        """
        deadline, name = read_deadline(deadline), read_key(key)
        started = time.monotonic()
        read = [read_messages(messages)]
        question = self.question(
            read, routes=routes, scores=scores, keys=[name], deadline=deadline, cancellation=cancellation, is_many=False
        )
        question.started = started
        found: Decision = self._answer(question)
        return found

    def question(
        self,
        conversations: Sequence[Conversation],
        *,
        routes: Iterable[Route] | RouteTable | None,
        scores: bool,
        keys: Sequence[str | None],
        caller: Hashable = None,
        deadline: float | None = None,
        account: Account | None = None,
        cancellation: Cancellation | None = None,
        started: float | None = None,
        is_many: bool = True,
    ) -> Question:
        """A question about conversations that were read. ``is_many`` makes the answer a list of decisions.

        Raises:
            EngineError: the router has been closed.
            SettingsError: ``caller`` or ``cancellation`` is of a wrong type.
            RouteTableError: ``routes`` cannot be used together.
        """
        self._check_open()
        check_asking(caller, cancellation)
        config = self.config if routes is None else self.config.with_routes(as_table(routes))
        # Facts only count where something is stated of models.
        facts = [RequestFacts.of(each) if config.forward.models else RequestFacts() for each in conversations]
        quality = self._quality if routes is None else None
        return Question(
            config.table,
            caller,
            [turns for turns in conversations if turns],
            partial(decisions_on, config, self._calibration, quality, conversations, facts, keys, scores, is_many),
            scores or self._calibration is not None,
            routes is None,
            deadline,
            time.monotonic() if started is None else started,
            account=account,
            cancellation=cancellation,
        )

    def question_by_tables(
        self,
        conversation: Conversation,
        tables: Sequence[RouteTable],
        *,
        scores: bool,
        caller: Hashable,
        deadline: float | None,
        account: Account | None,
    ) -> Question:
        """A question about one conversation by several tables, whose answer is a list of decisions, one by each.

        Raises:
            EngineError: the router has been closed.
        """
        self._check_open()
        check_asking(caller)
        return Question(
            tables[0],
            caller,
            [conversation] if conversation else [],
            partial(decisions_by_tables, tables, self._calibration, scores),
            scores or self._calibration is not None,
            False,
            deadline,
            account=account,
            tables=tables,
        )

    def submit(self, asked: Question | WarmUp) -> Future[Any]:
        """Ask; what needs no model is answered at once.

        Raises:
            EngineError: the router has been closed.
            QueueFullError: too much waits already.
        """
        if isinstance(asked, Question) and not asked.conversations:
            asked.answer.give(partial(asked.finish, [], 0.0, 0.0))
        else:
            self.scheduler.submit(asked)
        return asked.answer

    def _answer(self, asked: Question | WarmUp) -> Any:
        """Ask, and wait for the answer."""
        let_alarms_go_on()
        if isinstance(asked, Question) and asked.conversations:
            self.scheduler.ask(asked)
        else:
            self.submit(asked)
        try:
            self.scheduler.work_until_answered(asked)
            if asked.cancellation is not None:
                asked.cancellation.wait_until(lambda seconds: wait([asked.answer], seconds).done or asked.answer.done())
            return asked.answer.result()
        except BaseException:
            # Ctrl-C, for instance.
            asked.answer.cancel()
            raise

    @quiet_at_the_end()
    def route_many(
        self,
        conversations: Sequence[Messages],
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        scores: bool = False,
        keys: Sequence[str | int | UUID | None] | None = None,
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
        read = read_many(conversations)
        names = read_keys(keys, len(read))
        question = self.question(read, routes=routes, scores=scores, keys=names, cancellation=cancellation)
        found: list[Decision] = self._answer(question)
        return found

    @property
    def batch_size(self) -> int:
        """How many conversations are worth giving to :meth:`route_many` at once; 1 if they are decided one by one."""
        return self._decider.batch_size

    @quiet_at_the_end()
    def warm(
        self,
        messages: Messages | None = None,
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        whole: bool = False,
        scores: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Warmup:
        """Evaluate ahead of time what a later decision begins with; an encoder evaluates the routes alone.

        With ``whole``, decide on the conversation as it is: a :meth:`route` that asks just that, with the same routes, is then
        answered without a model. Any other decision comes first.

        Args:
            messages: a conversation whose last message may still be growing; None warms the routes alone.
            routes: other routes than the router's own.
            whole: also decide on ``messages``.
            scores: with ``whole``: also get the probability of every route, for a decision that asks for them.
            cancellation: a flag that stops it from another thread; what is finished by then is kept.

        Raises:
            SettingsError: ``whole`` without ``messages``, or ``scores`` without ``whole``.
            DecisionCancelledError: ``cancellation`` was set.
            ArchRouteError: as :meth:`route`.
        """
        asked = self.warm_up(messages, routes=routes, whole=whole, scores=scores, caller=object(), cancellation=cancellation)
        done: Warmup = self._answer(asked)
        return done

    def warm_up(
        self,
        messages: Messages | None,
        *,
        routes: Iterable[Route] | RouteTable | None,
        whole: bool,
        scores: bool,
        caller: Hashable,
        account: Account | None = None,
        cancellation: Cancellation | None = None,
    ) -> WarmUp:
        """A warm-up of a conversation, or of the routes alone.

        Raises:
            SettingsError: ``whole`` without ``messages``, or ``scores`` without ``whole``.
            EngineError: the router has been closed.
            ArchRouteError: as :meth:`route`.
        """
        self._check_open()
        check_asking(caller, cancellation)
        check_warm_up(messages, whole, scores)
        table = self.config.table if routes is None else as_table(routes)
        turns = None if messages is None else read_messages(messages) or None
        whole, scores = whole and turns is not None, scores or self._calibration is not None
        return WarmUp(
            table, caller, turns, keep=routes is None, whole=whole, scores=scores, account=account, cancellation=cancellation
        )

    @property
    def model_file(self) -> ModelFile:
        """The model's file; the encoder's in a cascade, whose ``model_files`` has both."""
        return self.model_files[0]

    @property
    def decider(self) -> Decider:
        """What decides: its model, prompts and settings, for measuring them."""
        return self._decider

    @property
    def _decider(self) -> Decider:
        self._check_open()
        return self.scheduler.decider

    def _check_open(self) -> None:
        self.scheduler.process.check("router")
        if not self._dropped.alive:
            raise EngineError("the router has been closed")

    @property
    def n_ctx(self) -> int:
        """Cells of the KV cache at present; 0 if there is none, as with an encoder."""
        return self._decider.n_ctx

    @property
    def n_evictions(self) -> int:
        """How many conversations and prefixes have given way to others in the KV cache."""
        return self._decider.n_evictions

    def close(self, *, wait: bool = True) -> None:
        """Free the model and its caches, unless a router of :meth:`with_config` uses them. What waits is decided first.

        Args:
            wait: whether to return only when that is done.
        """
        if self._dropped.detach():
            # What waits holds it.
            self._quality = None
            self.scheduler.release()
        if wait:
            self.scheduler.join()

    def __enter__(self) -> Router:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()
