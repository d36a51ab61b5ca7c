"""An encoder first, and a model on another machine if it is not sure."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby

from archroute_edge.conversation import Turn
from archroute_edge.deciders._calibration import Calibration
from archroute_edge.deciders._cascade import CascadeDecider, alone, at_deadline, both
from archroute_edge.deciders._decider import UnfinishedError, Work
from archroute_edge.deciders._encoder import EncoderDecider
from archroute_edge.deciders._remote import KEPT_S, RemoteDecider
from archroute_edge.decision import Verdict, Warmup
from archroute_edge.engine import Cancellation
from archroute_edge.errors import RemoteError
from archroute_edge.routes import RouteTable

logger = logging.getLogger(__name__)


class RemoteCascadeDecider(CascadeDecider):
    """As :class:`CascadeDecider`, with a remote model. The encoder's answer stands if its server gives none.

    The encoder goes on with other conversations while the server is asked.

    Args:
        encoder: decides first; closed with the cascade.
        remote: closed with the cascade.
        switch_over: 0 to 1.
        calibration: of the encoder.
        absence: what keeps the server from answering now.
    """

    kept_s = KEPT_S

    def __init__(
        self,
        encoder: EncoderDecider,
        remote: RemoteDecider,
        switch_over: float,
        calibration: Calibration | None,
        absence: RemoteError | None = None,
    ) -> None:
        super().__init__(encoder, None, switch_over, calibration)
        self._remote = remote
        self._is_away = False
        self._note(absence)

    def _ask_second(
        self,
        verdicts: list[Verdict],
        unsure: list[int],
        began: float,
        asked: Sequence[tuple[RouteTable, Sequence[Turn]]],
        scores: bool,
        keep: bool,
        cancellation: Cancellation,
    ) -> list[Verdict]:
        if not unsure:
            return verdicts
        found: list[Verdict | RemoteError] = []

        def ask(flag: Cancellation) -> None:
            for table, indices in groupby(unsure, lambda index: asked[index][0]):
                conversations = [asked[index][1] for index in indices]
                found.extend(self._remote.decide_each(table, conversations, scores=scores, cancellation=flag))

        def resume(_flag: Cancellation) -> list[Verdict]:
            seconds = time.perf_counter() - began
            for index, second in zip(unsure, found, strict=True):
                first = verdicts[index]
                self._note(second if isinstance(second, RemoteError) else None)
                if isinstance(second, RemoteError):
                    verdicts[index] = alone(first, "unreachable", seconds)
                else:
                    verdicts[index] = both(first, second, seconds)
            return verdicts

        work = Work(object(), ask, is_apart=True, is_for_these_alone=True)
        raise UnfinishedError(work, at_deadline(verdicts, unsure), resume)

    def _note(self, error: RemoteError | None) -> None:
        """Say in the log that the server gives no answers, or that it does again."""
        if error is not None and not self._is_away:
            logger.warning("%s; the encoder decides meanwhile", error)
        elif error is None and self._is_away:
            logger.warning("%s answers again", self._remote.name)
        self._is_away = error is not None

    def check_table(self, table: RouteTable) -> None:
        """Ask the remote model."""
        self._remote.check_table(table)

    def warm(
        self, table: RouteTable, turns: Sequence[Turn] | None, *, keep: bool = True, cancellation: Cancellation | None = None
    ) -> Warmup:
        """Warm the encoder, and the remote model if its server is there."""
        warmed = super().warm(table, turns, keep=keep, cancellation=cancellation)
        with suppress(RemoteError):
            second = self._remote.warm(table, turns, keep=keep, cancellation=cancellation)
            total_ms = warmed.total_ms + second.total_ms
            return Warmup(warmed.tokens + second.tokens, warmed.evaluated + second.evaluated, total_ms)
        return warmed

    @property
    def epoch(self) -> int:
        """The remote model's."""
        return self._remote.epoch

    def close(self) -> None:
        """Free the encoder, and close the connections."""
        super().close()
        self._remote.close()
