"""What every predictor is: expected scores for prompts, and a form in which it is written to a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from archroute_edge.quality._outcomes import Outcomes, Scores

if TYPE_CHECKING:
    from archroute_edge.quality._novelty import Novelty

Policy = Literal["heads", "factorization", "similarity", "classifier", "causal"]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PromptFeatures:
    """What a predictor reads of n prompts.

    Attributes:
        texts: what the user said last, whole, n of them.
        vectors: (n, d) the encoder's unit vectors of the conversations, as it decides by them; None if it was not asked.
        levels: (n, 5) the chances of the marks 1 to 5 that a language model gives the conversations; None if it was not asked.
    """

    texts: tuple[str, ...]
    vectors: Vectors | None
    levels: Scores | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, which: npt.NDArray[np.intp]) -> PromptFeatures:
        """Some of the prompts, by number."""
        return PromptFeatures(
            tuple(self.texts[row] for row in which),
            None if self.vectors is None else self.vectors[which],
            None if self.levels is None else self.levels[which],
        )


class Predictor(ABC):
    """Expected scores of k models.

    Attributes:
        policy: which of the policies it is.
        models: k names, as the outcomes had them.
        reads: what it reads beside the texts: an encoder's vectors, or the levels that a language model says.
        encoder: identity of the model that is read; None if none is.
        model_file: the file of that model, if the predictor stands in it.
        sample: (m, k) expected scores of prompts that a share or a budget is turned into a rate by.
        sample_tokens: (m,) how many tokens those prompts have, about; None if that is not known.
        novelty: what the prompts of its training were like; None if that is not known.
    """

    policy: ClassVar[Policy]
    reads: ClassVar[Literal["vectors", "levels"]] = "vectors"
    model_file: Path | None = None
    sample_tokens: npt.NDArray[np.float64] | None = None
    novelty: Novelty | None = None

    def __init__(self, models: tuple[str, ...], encoder: str | None, sample: Scores) -> None:
        self.models = models
        self.encoder = encoder
        self.sample = sample

    @abstractmethod
    def expected(self, features: PromptFeatures) -> Scores:
        """(n, k) expected scores, 0 to 1, finite for every prompt, the empty one included."""

    @abstractmethod
    def with_model(self, model: str, graded: Outcomes, features: PromptFeatures) -> Predictor:
        """This one and one model more, from few graded prompts; the others' scores stay bit for bit.

        Raises:
            QualityError: it has the model already, or there is no graded prompt.
        """

    def replace_sample(self, scores: Scores, features: PromptFeatures) -> None:
        """Take other prompts as the sample: (m, k) expected scores, and the prompts' features."""
        self.sample = scores

    @abstractmethod
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """All that it has learned, beside `models`, `encoder` and `sample`."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What is no tensor, as values for JSON."""

    @classmethod
    @abstractmethod
    def restore(
        cls,
        models: tuple[str, ...],
        encoder: str | None,
        sample: Scores,
        tensors: Mapping[str, npt.NDArray[Any]],
        settings: Mapping[str, Any],
    ) -> Predictor:
        """The predictor that `tensors` and `settings` came from.

        Raises:
            QualityError: something is missing, or of another shape or kind.
        """
