"""Which model a conversation has, and what changing it has cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from archroute_edge.config import RoutingConfig
from archroute_edge.record import Usage
from archroute_edge.system import ExpiringStore, bytes_in_memory
from archroute_edge.targets import Anchor, Place, judge_switch

MAX_CONVERSATIONS: Final = 100_000
MAX_BYTES: Final = 64 << 20
# Beside the texts: the objects around them.
_BYTES_BESIDE: Final = 500
_BYTES_A_PLACE: Final = 200
_MOST_PLACES: Final = 16

CACHE_S: Final = 300.0
"""For how many idle seconds an upstream is taken to keep a conversation in its cache; Plano takes as many for most of them."""


@dataclass(frozen=True)
class _Remembered:
    anchor: Anchor
    time: float


class Conversations:
    """Conversations and their anchors. The least recently used one gives way; each ends ``session_ttl`` after its last answer.

    Belongs to one event loop.

    Args:
        config: prices, and for how long conversations are remembered.
        most: conversations at most.
        clock: seconds that only grow.
        most_bytes: all of them together.
    """

    def __init__(
        self,
        config: RoutingConfig,
        most: int = MAX_CONVERSATIONS,
        clock: Callable[[], float] = time.monotonic,
        most_bytes: int = MAX_BYTES,
    ) -> None:
        self._config = config
        self._clock = clock
        self._store: ExpiringStore[_Remembered] = ExpiringStore(most, config.forward.session_ttl, most_bytes, _size, clock)

    def find(self, session: str, asked_model: str) -> Anchor | None:
        """The conversation's anchor; None for a new one.

        Args:
            session: names the conversation.
            asked_model: what its requests ask for: ``auto`` and an alias lead to models of their own.
        """
        found = self._store.find(_key(session, asked_model))
        if found is None:
            return None
        return replace(found.anchor, is_warm=self._clock() - found.time <= CACHE_S)

    def answered(
        self,
        session: str,
        asked_model: str,
        model: str,
        usage: Usage,
        prompt_tokens: int | None = None,
        place: Place | None = None,
    ) -> None:
        """Note which model has answered a request of the conversation.

        Args:
            session, asked_model: as for :meth:`find`.
            model: the target, as the configuration names it.
            usage: the tokens, as the upstream reports them.
            prompt_tokens: an estimate, for upstreams that report none.
            place: where the model was chosen.
        """
        before = self.find(session, asked_model)
        first, spent, baseline = model, 0.0, 0.0
        # A conversation whose cache is lost begins anew: changing it then costs nothing that staying would not.
        if before is not None and before.is_warm:
            switch = judge_switch(self._config, before, model)
            first, spent, baseline = before.first_model, before.spent + switch.cost, switch.baseline
        prompt = usage.input if usage.input is not None else prompt_tokens
        context = (prompt or 0) + (usage.output or 0)
        if not context and before is not None:
            context = before.context_tokens
        chosen = dict(before.chosen) if before is not None else {}
        if place is not None:
            # Last in the order, so that the places of long ago go first.
            chosen.pop(place, None)
            chosen[place] = model
            if len(chosen) > _MOST_PLACES:
                del chosen[next(iter(chosen))]
        anchor = Anchor(model, first, context, usage.cached, spent, baseline, chosen=chosen)
        self._store.put(_key(session, asked_model), _Remembered(anchor, self._clock()))

    def replace(self, config: RoutingConfig) -> None:
        """Take a new configuration. Conversations stay, but for those whose model is no target any more."""
        self._config = config
        self._store.ttl = config.forward.session_ttl
        targets = {model for route in config.table for model in route.models} | {config.default_model}
        targets |= {target.model for alias in config.aliases.values() for target in alias}
        for key, remembered in self._store:
            if remembered.anchor.model not in targets:
                self._store.forget(key)

    def __len__(self) -> int:
        return len(self._store)


def _key(session: str, asked_model: str) -> str:
    return f"{asked_model}\0{session}"


def _size(key: str, remembered: _Remembered) -> int:
    anchor = remembered.anchor
    places = _BYTES_A_PLACE * len(anchor.chosen) + bytes_in_memory(anchor.chosen.values())
    return _BYTES_BESIDE + places + bytes_in_memory([key, anchor.model, anchor.first_model])
