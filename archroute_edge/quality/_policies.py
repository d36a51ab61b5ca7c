"""Training of any policy that learns here, and judging a policy by whole categories that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from archroute_edge.errors import QualityError
from archroute_edge.quality._heads_fit import Ridges
from archroute_edge.quality._novelty import Novelty
from archroute_edge.quality._outcomes import Battles, Outcomes, Scores
from archroute_edge.quality._predictor import Policy, Predictor, PromptFeatures
from archroute_edge.quality._predictor_file import check_models
from archroute_edge.quality._splits import Split, battles_of, category_of, folds
from archroute_edge.quality._training import N_PARTS, Progress, held_out_parts, held_out_scored, held_out_scores

if TYPE_CHECKING:
    from archroute_edge.quality._train_by_kind import TrainedByKind

_SCORED_OF_A_PART: Final = 400


@dataclass(frozen=True)
class PolicyTraining:
    """How a predictor is trained.

    Args:
        policy: which one.
        encoder: identity of the model that is read beside the texts; None if none is.
        seed: of what is left to chance.
        together: heads learn all sets of outcomes together, even if each does better with heads of its own.
    """

    policy: Policy
    encoder: str | None = None
    seed: int = 0
    together: bool = False

    def train(
        self, outcomes: Outcomes | None, battles: Battles | None, features: PromptFeatures, on_progress: Progress
    ) -> TrainedPolicy:
        """A predictor, and what it expects of prompts that were held out, if there are enough and it learns from scores.

        Args:
            outcomes: scores; None to learn from battles alone.
            battles: to learn from instead of those that are drawn from the outcomes.
            features: of the battles' prompts, or without battles of the outcomes'.
            on_progress: called with a step, and how much of it is done and is in all.

        Raises:
            QualityError: nothing can be learned from these.
            SettingsError: SciPy is missing.
        """
        learned = outcomes if battles is None else battles
        assert learned is not None
        check_models(learned.models)
        parts = held_out_parts(outcomes, self.seed) if outcomes is not None and battles is None else ()
        ridges: Mapping[str, Ridges] | None = None
        expected: Scores | None = None
        if self.policy == "heads":
            assert outcomes is not None
            trained = self._heads(outcomes, features, parts, on_progress)
            predictor: Predictor = trained.predictor
            ridges = trained.ridges
            if trained.held_out is not None:
                # Heads say something of what they were trained on, too.
                expected = np.where(held_out_scored(outcomes, parts), trained.held_out, np.nan)
        else:
            predictor = self._of_all(outcomes, battles, features, on_progress)
            if outcomes is not None and parts:
                expected = held_out_scores(
                    lambda some, of_these: self._of_a_part(some, of_these, on_progress),
                    outcomes,
                    features,
                    parts,
                    _SCORED_OF_A_PART,
                    on_progress,
                )
        predictor.novelty = Novelty.of(features, self.seed)
        return TrainedPolicy(predictor, parts, expected, ridges)

    def expected_of_new_categories(
        self, outcomes: Outcomes, features: PromptFeatures, parts: Sequence[Split], on_progress: Progress
    ) -> Scores:
        """(n, k) what is expected of prompts by predictors that were trained without the categories of their part.

        NaN where a model has no outcomes elsewhere, or if battles are learned from no battle. What heads are held back by is
        chosen on the same parts and on prompts of known categories.

        Args:
            outcomes: n prompts.
            features: of the same.
            parts: of :func:`new_category_parts`.
            on_progress: called with a step, and how much of it is done and is in all.

        Raises:
            QualityError: nothing can be learned from the rest of some part.
            SettingsError: SciPy is missing.
        """
        if self.policy == "heads":
            found = self._heads(outcomes, features, parts, on_progress).held_out
            assert found is not None
        else:
            found = held_out_scores(
                lambda some, of_these: self._of_a_part(some, of_these, on_progress),
                outcomes,
                features,
                parts,
                len(outcomes.prompts),
                on_progress,
            )
        # Heads say something of what they were trained on, too.
        return np.where(held_out_scored(outcomes, parts), found, np.nan)

    def _heads(
        self, outcomes: Outcomes, features: PromptFeatures, parts: Sequence[Split], on_progress: Progress
    ) -> TrainedByKind:
        from archroute_edge.quality._train_by_kind import train_heads_by_kind

        return train_heads_by_kind(
            outcomes,
            features,
            encoder=self.encoder,
            seed=self.seed,
            parts=parts,
            are_together=self.together,
            on_progress=on_progress,
        )

    def _of_a_part(self, outcomes: Outcomes, features: PromptFeatures, on_progress: Progress) -> Predictor | None:
        """A predictor of the models that some of the prompts tell anything about; None if there are none."""
        if self.policy == "causal":
            return self._of_all(outcomes, None, features, on_progress)
        battles = battles_of(outcomes, self.seed)
        fought = np.unique((battles.first, battles.second))
        if not len(fought):
            return None
        models = tuple(battles.models[number] for number in fought)
        first, second = (np.searchsorted(fought, each) for each in (battles.first, battles.second))
        battles = replace(battles, models=models, first=first, second=second)
        return self._of_all(outcomes.columns(models), battles, features, on_progress)

    def _of_all(
        self, outcomes: Outcomes | None, battles: Battles | None, features: PromptFeatures, on_progress: Progress
    ) -> Predictor:
        if self.policy == "causal":
            from archroute_edge.quality._causal import train_causal

            assert outcomes is not None
            return train_causal(outcomes, features, model=self.encoder, seed=self.seed)
        if battles is None:
            assert outcomes is not None
            battles = battles_of(outcomes, self.seed)
        return self._from_battles()(
            battles,
            features,
            outcomes,
            encoder=self.encoder,
            seed=self.seed,
            on_progress=lambda done, total: on_progress("training", done, total),
        )

    def _from_battles(self) -> Callable[..., Predictor]:
        if self.policy == "similarity":
            from archroute_edge.quality._similarity import train_similarity

            return train_similarity
        if self.policy == "factorization":
            from archroute_edge.quality._factorization import train_factorization

            return train_factorization
        from archroute_edge.quality._classifier import train_classifier

        return train_classifier


@dataclass(frozen=True)
class TrainedPolicy:
    """A predictor, and how it was trained.

    Attributes:
        predictor: trained on everything.
        parts: what was held out in turn.
        held_out: (n, k) what is expected of these, NaN where the rest says nothing of a model; None if none was held out.
        ridges: of heads, by kind of prompt; of all kinds together under the empty name.
    """

    predictor: Predictor
    parts: tuple[Split, ...]
    held_out: Scores | None
    ridges: Mapping[str, Ridges] | None


def new_category_parts(outcomes: Outcomes, seed: int = 0) -> tuple[Split, ...]:
    """Whole categories to leave out in turn: five parts, or as many as there are categories.

    Raises:
        QualityError: there is one category alone, or a part has nothing that the others have not.
    """
    n_categories = len({category_of(prompt) for prompt in outcomes.prompts})
    if n_categories < 2:
        raise QualityError("all prompts have one category, so none can be left out; give the prompts a 'category'")
    parts = folds(outcomes, min(N_PARTS, n_categories), "category", seed)
    if not all(len(part.train) and len(part.test) for part in parts):
        raise QualityError("some categories have only prompts that other categories have, too; give them prompts of their own")
    return parts
