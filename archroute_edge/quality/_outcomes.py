"""What is learned from: prompts, the scores of models' answers to them, and battles of two models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        id: unique within a file.
        messages: a text, or a list of messages, as :class:`archroute_edge.Router` takes them.
        category: the subject or task, if the file tells.
        group: the set that it comes from, the file's name without ``prompts_`` and endings.
        tokens: about how many the request has, system and tool messages among them; None: those of ``messages``.
    """

    id: str
    messages: str | tuple[dict[str, Any], ...]
    category: str | None = None
    group: str = ""
    tokens: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Outcomes:
    """Scores of models' answers.

    Attributes:
        prompts: n of them.
        models: k names.
        scores: (n, k), 0 to 1; NaN where a model was not asked.
    """

    prompts: tuple[Prompt, ...]
    models: tuple[str, ...]
    scores: Scores

    @property
    def scored_models(self) -> list[str]:
        """Names of the models that have any score, in their order."""
        return [name for name, column in zip(self.models, self.scores.T, strict=True) if not np.isnan(column).all()]

    def rows(self, which: Sequence[int] | npt.NDArray[np.intp]) -> Outcomes:
        """Some of the prompts, by number."""
        return Outcomes(tuple(self.prompts[row] for row in which), self.models, self.scores[np.asarray(which, np.intp)])

    def columns(self, models: Sequence[str]) -> Outcomes:
        """Some of the models; one that is not there has no scores."""
        place = {name: column for column, name in enumerate(self.models)}
        scores = np.full((len(self.prompts), len(models)), np.nan)
        for column, name in enumerate(models):
            if name in place:
                scores[:, column] = self.scores[:, place[name]]
        return Outcomes(self.prompts, tuple(models), scores)


@dataclass(frozen=True)
class Battles:
    """Comparisons of two models' answers to one prompt.

    Attributes:
        prompts: those that battles were fought on.
        models: k names.
        prompt: (n,) which prompt each battle is on.
        first: (n,) number of one model.
        second: (n,) number of the other.
        won: (n,) 1 if the first was better, 0 if the second was, 0.5 for a tie.
    """

    prompts: tuple[Prompt, ...]
    models: tuple[str, ...]
    prompt: npt.NDArray[np.intp]
    first: npt.NDArray[np.intp]
    second: npt.NDArray[np.intp]
    won: Scores = field(repr=False)
