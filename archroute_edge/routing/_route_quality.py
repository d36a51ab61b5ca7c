"""What a router needs for routes that prefer ``quality``: their predictors, and what the models say that these read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from archroute_edge.conversation import Conversation, Turn
from archroute_edge.decision import Verdict
from archroute_edge.engine import Cancellation
from archroute_edge.errors import EngineError, QualityError
from archroute_edge.models import BUNDLED_ENCODER, find_bundled
from archroute_edge.system import OwnProcess, stop_at_the_end
from archroute_edge.targets import Assessment, QualityPolicies

if TYPE_CHECKING:
    from archroute_edge.deciders import Decider
    from archroute_edge.quality import PromptFeatures

logger = logging.getLogger(__name__)


class SharedReader:
    """A model that predictors read, for conversations that it has not decided on. Thread-safe; freed with the last reference.

    Args:
        path: its GGUF.
        n_threads: threads for evaluation; the physical cores by default.

    Raises:
        ModelError: it cannot be read or loaded.
    """

    def __init__(self, path: Path, n_threads: int | None = None) -> None:
        from archroute_edge.quality import open_reader

        self._reader = open_reader(path, n_threads)
        self._is_used = threading.Lock()
        self._process = OwnProcess()
        self._end = Cancellation()
        stop_at_the_end(self)

    def of(self, turns: Sequence[Turn]) -> PromptFeatures:
        """What predictors read of one conversation.

        Raises:
            DecisionCancelledError: the program ends.
            EngineError: llama.cpp failed, or this process was forked from the one that loaded the model.
        """
        self._process.check("router")
        with self._is_used:
            return self._reader.features([Conversation(turns)], self._end)

    def stop(self) -> None:
        """Stop what is evaluated: the program ends."""
        self._end.cancel()

    def wait_for_stop(self) -> None:
        """Wait until nothing is evaluated."""
        if self._process.is_this:
            with self._is_used:
                pass


class RouteQuality:
    """What is expected of the models of a configuration's routes.

    Args:
        policies: those of the configuration.
        own: identity of the decider's encoder, whose vectors its verdicts have; None if it has none.
        readers: the other models that predictors read, by their identities.
    """

    def __init__(self, policies: QualityPolicies, own: str | None, readers: Mapping[str, SharedReader]) -> None:
        self._policies = policies
        self._own = own
        self.readers = readers

    def assess(self, route: str, verdict: Verdict, turns: Sequence[Turn]) -> Assessment | None:
        """What is expected of a route's models on a conversation; None if it prefers something else, or nothing can be read.

        Raises:
            DecisionCancelledError: the program ends.
        """
        found = self._policies.routes.get(route)
        if found is None:
            return None
        try:
            return found.assess(self._features(found.predictor.encoder, verdict, turns))
        except (EngineError, QualityError) as exc:
            logger.warning("route %r: its models are tried in the order of the file: %s", route, exc)
            return None

    def _features(self, read: str | None, verdict: Verdict, turns: Sequence[Turn]) -> PromptFeatures:
        """What a predictor reads that was trained with the model `read`."""
        from archroute_edge.quality import PromptFeatures, plain_features

        if read is not None and (read != self._own or verdict.vector is None):
            return self.readers[read].of(turns)
        features = plain_features([Conversation(turns)])
        if read is None or verdict.vector is None:
            return features
        return PromptFeatures(features.texts, verdict.vector[None, :])


def open_quality(
    policies: QualityPolicies, decider: Decider, n_threads: int | None, loaded: Mapping[str, SharedReader] | None = None
) -> RouteQuality:
    """What routes that prefer ``quality`` need with this decider.

    Args:
        policies: theirs.
        decider: decides on conversations.
        n_threads: threads for other models.
        loaded: models that are loaded already, by their identities.

    Raises:
        ConfigError: a predictor reads the vectors of an encoder that is neither the decider's nor the bundled one nor around
            it, or the levels of a language model that is not on this machine.
        ModelError: a model that is read cannot be loaded.
    """
    from archroute_edge.quality import encoder_identity

    needed = policies.encoders
    own = encoder_identity(decider.model.path) if needed and decider.model.kind == "encoder" else None
    files = {identity: _file_of(policies, identity, route, decider) for identity, route in needed.items() if identity != own}
    known = loaded or {}
    return RouteQuality(
        policies, own, {identity: known.get(identity) or SharedReader(path, n_threads) for identity, path in files.items()}
    )


def _file_of(policies: QualityPolicies, identity: str, route: str, decider: Decider) -> Path:
    """Where the model is that a route's predictor reads."""
    from archroute_edge.quality import encoder_identity, find_encoder

    predictor = policies.routes[route].predictor
    if predictor.model_file is not None:
        return predictor.model_file
    if predictor.reads == "levels":
        try:
            return find_encoder(identity)
        except QualityError as exc:
            raise policies.error(route, f"its predictor is not usable here: {exc}") from exc
    bundled = find_bundled(BUNDLED_ENCODER).path
    if encoder_identity(bundled) != identity:
        own = f" or {decider.model.path.name}" if decider.model.kind == "encoder" else ""
        raise policies.error(
            route,
            f"its predictor was trained on the vectors of another encoder than {BUNDLED_ENCODER}{own}; "
            "train it again with this one",
        )
    return bundled
