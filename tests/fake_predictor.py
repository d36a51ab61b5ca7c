"""A predictor small enough to read: expected scores from the length of a text, or from the first numbers of its vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from archroute_edge.quality import Outcomes, Policy, Predictor, PromptFeatures, Scores

Expect = Callable[[str], tuple[float, ...]]


class FakePredictor(Predictor):
    """Expects what a function of the text gives; with an encoder, what stands in the vector, moved into 0 to 1.

    It notes the features that it was asked about.
    """

    policy: ClassVar[Policy] = "heads"

    def __init__(
        self,
        models: tuple[str, ...] = ("small", "large"),
        expect: Expect | None = None,
        *,
        encoder: str | None = None,
        sample: Scores | None = None,
    ) -> None:
        super().__init__(models, encoder, np.empty((0, len(models))) if sample is None else sample)
        self._expect = expect
        self.asked: list[PromptFeatures] = []

    def expected(self, features: PromptFeatures) -> Scores:
        self.asked.append(features)
        if self.encoder is not None:
            assert features.vectors is not None
            return np.clip(0.5 + 0.5 * features.vectors[:, : len(self.models)].astype(np.float64), 0.0, 1.0)
        assert self._expect is not None
        return np.array([self._expect(text) for text in features.texts], np.float64)

    def with_model(self, model: str, graded: Outcomes, features: PromptFeatures) -> Predictor:
        raise NotImplementedError

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {}

    def settings(self) -> dict[str, Any]:
        return {}

    @classmethod
    def restore(
        cls,
        models: tuple[str, ...],
        encoder: str | None,
        sample: Scores,
        tensors: Mapping[str, npt.NDArray[Any]],
        settings: Mapping[str, Any],
    ) -> Predictor:
        return cls(models, encoder=encoder, sample=sample)


def harder_when_longer(text: str) -> tuple[float, ...]:
    """The small model does well on short texts, the large one on all."""
    return max(0.0, 0.9 - len(text) / 100), 0.9
