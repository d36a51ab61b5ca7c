"""How targets have done of late: which rest, how soon they answer, and which are withdrawn from their trial."""

from __future__ import annotations

import logging
import statistics
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from archroute_edge.config import RoutingConfig, shorten
from archroute_edge.gateway._canary_trial import trials_of
from archroute_edge.targets import Place, places_of

logger = logging.getLogger(__name__)

MAX_TARGETS: Final = 1000
"""Targets at most; a provider's wildcard lets clients name any model."""
_LATENCIES: Final = 50
_LEAST_LATENCIES: Final = 3
# Older ones say nothing any more: the target is measured again, and a slow one gets another chance.
_FRESH_S: Final = 3600.0


class PastTry(NamedTuple):
    """A try of an earlier run, as the record has it.

    Args:
        time: in seconds since 1970.
        route: of the request; None if no decision was made.
        asked_model: by the request.
        model: the target.
        ok: whether it answered.
        first_byte_ms: None if nothing came.
        is_first: whether it was the request's first try.
    """

    time: float
    route: str | None
    asked_model: str | None
    model: str
    ok: bool
    first_byte_ms: float | None
    is_first: bool = True


@dataclass
class _Target:
    failures: int = 0
    rests_until: float | None = None
    trial_until: float = 0.0
    latencies: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_LATENCIES))


class Health:
    """Counts how requests to targets end; it is the ``TargetKnowledge`` of a gateway. Belongs to one event loop.

    Args:
        config: how long targets rest, and which of them are on trial.
        clock: seconds that only grow.
    """

    def __init__(self, config: RoutingConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._targets: OrderedDict[str, _Target] = OrderedDict()
        self._trials = trials_of(config)

    def latency_ms(self, model: str) -> float | None:
        """The median of the latest times to the first byte; None if there are fewer than three of the last hour."""
        target = self._targets.get(model)
        if target is None:
            return None
        since = self._clock() - _FRESH_S
        fresh = [latency for at, latency in target.latencies if at >= since]
        return statistics.median(fresh) if len(fresh) >= _LEAST_LATENCIES else None

    def is_resting(self, model: str) -> bool:
        """Whether it failed too often in a row. When it has rested, one request tries it; the others wait for how that ends."""
        target = self._targets.get(model)
        if target is None or target.rests_until is None:
            return False
        return self._clock() < max(target.rests_until, target.trial_until)

    def is_withdrawn(self, place: Place, model: str) -> bool:
        """Whether it was on trial there, and did worse than the incumbent."""
        trial = self._trials.get(place)
        return trial is not None and trial.is_withdrawn and model == trial.canary.model

    @property
    def resting(self) -> tuple[str, ...]:
        """The targets that rest now."""
        return tuple(model for model in self._targets if self.is_resting(model))

    @property
    def withdrawn(self) -> tuple[tuple[Place, str], ...]:
        """The targets that did worse than the incumbent in their trial, and where that was."""
        return tuple((place, trial.canary.model) for place, trial in self._trials.items() if trial.is_withdrawn)

    def started(self, model: str, limit: float) -> None:
        """A request goes to a target; if that has rested, it is the one that tries it.

        Args:
            model: the target.
            limit: seconds by which it has failed, or its first byte has come; another request may try then, in case the end is
                never told.
        """
        target = self._targets.get(model)
        if target is not None and target.rests_until is not None and not self.is_resting(model):
            target.trial_until = self._clock() + limit

    def answering(self, model: str) -> None:
        """The first byte of a target's answer has come: one that was tried after its rest rests no more while it streams.

        Its next failure lets it rest again, since only an answer to its end counts as one.
        """
        target = self._targets.get(model)
        if target is not None and target.rests_until is not None:
            target.failures, target.rests_until, target.trial_until = self._config.forward.rest_after - 1, None, 0.0

    def ended(self, model: str, ok: bool | None, first_byte_ms: float | None = None, places: Sequence[Place] = ()) -> None:
        """A request to a target has ended.

        Args:
            model: the target.
            ok: whether it answered as it should; None if that cannot be told: the client went away, or asked for something
                impossible.
            first_byte_ms: from its beginning to the first byte of the answer.
            places: of the order, if this was the order's first target; else none, since requests that another target has
                failed are no fair sample.
        """
        target = self._target(model)
        if ok is None:
            target.trial_until = 0.0
            return
        if ok:
            self._answered(model, target, first_byte_ms, self._clock())
        else:
            self._failed(model, target)
        for place in places:
            self._tried(place, model, ok, first_byte_ms)

    def fill(self, tries: Iterable[PastTry], now: float, changed: float = 0.0) -> None:
        """Take what earlier runs have recorded, oldest first.

        Args:
            tries: no more than the last few thousand are worth reading.
            now: in seconds since 1970.
            changed: when the configuration was written; tries before that say nothing about who is on trial now.
        """
        for each in tries:
            if each.ok and each.first_byte_ms is not None:
                at = self._clock() - (now - each.time)
                self._target(each.model).latencies.append((at, each.first_byte_ms))
            if each.is_first and each.time >= changed:
                for place in places_of(self._config, each.route, each.asked_model):
                    self._tried(place, each.model, each.ok, each.first_byte_ms)

    def replace(self, config: RoutingConfig) -> None:
        """Take a new configuration: all trials begin anew; what is known of targets stays."""
        self._config = config
        self._trials = trials_of(config)

    def _target(self, model: str) -> _Target:
        target = self._targets.setdefault(model, _Target())
        self._targets.move_to_end(model)
        while len(self._targets) > MAX_TARGETS:
            self._targets.popitem(last=False)
        return target

    def _answered(self, model: str, target: _Target, first_byte_ms: float | None, now: float) -> None:
        if target.rests_until is not None:
            logger.info("%s answers again", shorten(model))
        target.failures, target.rests_until, target.trial_until = 0, None, 0.0
        if first_byte_ms is not None:
            target.latencies.append((now, first_byte_ms))

    def _failed(self, model: str, target: _Target) -> None:
        target.failures += 1
        now, settings = self._clock(), self._config.forward
        if target.rests_until is None:
            if target.failures < settings.rest_after:
                return
        elif now < target.rests_until:
            # It was sent before the rest began.
            return
        target.rests_until, target.trial_until = now + settings.rest, 0.0
        logger.warning("%s rests for %g s: it has failed %d times in a row", shorten(model), settings.rest, target.failures)

    def _tried(self, place: Place, model: str, ok: bool, first_byte_ms: float | None) -> None:
        trial = self._trials.get(place)
        if trial is None or trial.is_withdrawn:
            return
        why = trial.add(model, ok, first_byte_ms)
        if why is not None:
            logger.error(
                "%s is withdrawn from %s %s: %s; it gets no more requests there until the configuration changes",
                trial.canary.model,
                "the alias" if place.kind == "alias" else "the route",
                place.name,
                why,
            )
