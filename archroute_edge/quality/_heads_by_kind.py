"""``heads`` for prompts of several kinds: heads of their own for each kind, weighed by how likely a prompt is of it.

A model that solves equations well may know little law, and what is hard in one set of prompts is not what is hard in another.
So each kind has heads of its own, its experts, and a gate says how likely a prompt is of each kind: a mixture of experts
(Jacobs et al. 1991, "Adaptive mixtures of local experts"). Experts know little of prompts that are of no kind, so heads of all
kinds together have a share as well.

Only differences between models on a prompt decide, and a kind's experts may find it harder than others do. So a model that they
do not know moves with those that they know: from what the heads of all kinds expect of it, by as much as these on average.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import QualityError
from archroute_edge.quality._heads import Heads, chances
from archroute_edge.quality._outcomes import Outcomes, Scores
from archroute_edge.quality._predictor import Policy, Predictor, PromptFeatures
from archroute_edge.quality._text_features import ReadText, read_text

MOST_KINDS: Final = 32
"""A predictor's time for a prompt, and its file, grow with them."""

_LARGEST_SHARE: Final = 1e3


class Views(NamedTuple):
    """What the parts of a mixture say of n prompts.

    Attributes:
        chances: (n, kinds) by the gate.
        by_all: (n, k) expected scores by the heads of all kinds.
        by_experts: (n, models of the kind) for each kind; NaN does not count.
    """

    chances: Scores
    by_all: Scores
    by_experts: tuple[Scores, ...]

    def rows(self, which: npt.NDArray[np.intp]) -> Views:
        """Of some of the prompts."""
        return Views(self.chances[which], self.by_all[which], tuple(each[which] for each in self.by_experts))


class HeadsByKind(Predictor):
    """A mixture of heads.

    Args:
        models: k names.
        encoder: identity of the encoder; None if no vectors are read.
        gate: heads whose models are the kinds: the chance that a prompt is of each.
        of_all: heads of all kinds and models.
        experts: the heads of each kind, of some of the models.
        share: the weight of ``of_all`` beside the chances; positive.

    All heads have as many cells of words, and samples of the same prompts.
    """

    policy: ClassVar[Policy] = "heads"

    def __init__(
        self, models: tuple[str, ...], encoder: str | None, gate: Heads, of_all: Heads, experts: Sequence[Heads], share: float
    ) -> None:
        super().__init__(models, encoder, np.empty(0))
        self.gate, self.of_all, self.experts, self.share = gate, of_all, tuple(experts), share
        self._columns = [np.array([models.index(name) for name in each.models], np.intp) for each in experts]
        # With the digits that a file keeps.
        views = Views(gate.sample, of_all.sample, tuple(each.sample for each in experts))
        self.sample = self.mean(views).astype(np.float32).astype(np.float64)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds, as the outcomes had them."""
        return self.gate.models

    def expected(self, features: PromptFeatures) -> Scores:
        """As :meth:`Predictor.expected` says; prompt by prompt, and each is read once."""
        return self.mean(self._views(features))

    def _views(self, features: PromptFeatures) -> Views:
        bits = self.gate.scaling.word_bits
        return self.views([read_text(text, bits) for text in features.texts], self.gate.vectors_of(features))

    def views(self, read: Sequence[ReadText], vectors: npt.NDArray[np.float32] | None) -> Views:
        """What the parts say of texts that were read already."""
        chances_of, by_all, *by_experts = (chances(heads.logits_of(read, vectors)) for _, heads in self._parts())
        return Views(chances_of, by_all, tuple(by_experts))

    def mean(self, views: Views) -> Scores:
        """(n, k) the mean of what the parts expect."""
        total = self.share * views.by_all
        shares = np.full((len(total), 1), self.share, np.float64)
        for chance, moved in zip(views.chances.T, self._moved(views), strict=True):
            total += chance[:, None] * moved
            shares += chance[:, None]
        found: Scores = np.clip(total / shares, 0.0, 1.0)
        return found

    def _moved(self, views: Views) -> Iterator[Scores]:
        """For each kind (n, k) what its experts expect of their models, and of the others what moves with these."""
        for scores, columns in zip(views.by_experts, self._columns, strict=True):
            known = ~np.isnan(scores)
            by_all = views.by_all[:, columns]
            # Contiguous, or the order of the sum depends on the number of prompts.
            moves = np.ascontiguousarray(np.where(known, scores - by_all, 0.0))
            move = (moves.sum(axis=1) / np.maximum(known.sum(axis=1), 1))[:, None]
            found = views.by_all + move
            found[:, columns] = np.where(known, scores, by_all + move)
            yield found

    def with_model(self, model: str, graded: Outcomes, features: PromptFeatures) -> HeadsByKind:
        """As :meth:`Predictor.with_model` says; a head more of all kinds, which the kinds' experts only move."""
        of_all = self.of_all.with_model(model, graded, features)
        found = HeadsByKind((*self.models, model), self.encoder, self.gate, of_all, self.experts, self.share)
        # Bit for bit, also where `calibrate` has put another sample in its place.
        found.sample[:, :-1] = self.sample
        return found

    def replace_sample(self, scores: Scores, features: PromptFeatures) -> None:
        """As :meth:`Predictor.replace_sample` says; a model that is added later needs what each part expects of the prompts."""
        found = self.with_samples(self._views(features))
        self.gate, self.of_all, self.experts, self.sample = found.gate, found.of_all, found.experts, scores

    def with_samples(self, views: Views) -> HeadsByKind:
        """This one with another sample, of which the parts say that."""
        # What does not count becomes what changes no mean.
        by_experts = [
            np.clip(moved[:, columns], 0.0, 1.0) for moved, columns in zip(self._moved(views), self._columns, strict=True)
        ]
        gate, of_all, *experts = (
            Heads(heads.models, heads.encoder, sample, heads.scaling, heads.weights)
            for (_, heads), sample in zip(self._parts(), (views.chances, views.by_all, *by_experts), strict=True)
        )
        return HeadsByKind(self.models, self.encoder, gate, of_all, experts, self.share)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """As :meth:`Predictor.tensors` says: those of all parts, with their samples."""
        return {
            f"{part}.{name}": tensor
            for part, heads in self._parts()
            for name, tensor in {**heads.tensors(), "sample": heads.sample.astype(np.float32)}.items()
        }

    def settings(self) -> dict[str, Any]:
        """As :meth:`Predictor.settings` says."""
        return {
            "kinds": list(self.kinds),
            "share": self.share,
            "models_by_kind": [[self.models.index(name) for name in each.models] for each in self.experts],
            "parts": {part: heads.settings() for part, heads in self._parts()},
        }

    def _parts(self) -> list[tuple[str, Heads]]:
        experts = ((f"expert{number}", expert) for number, expert in enumerate(self.experts))
        return [("gate", self.gate), ("all", self.of_all), *experts]

    @classmethod
    def restore(
        cls,
        models: tuple[str, ...],
        encoder: str | None,
        sample: Scores,
        tensors: Mapping[str, npt.NDArray[Any]],
        settings: Mapping[str, Any],
    ) -> HeadsByKind:
        """As :meth:`Predictor.restore` says."""
        kinds, members, parts = settings.get("kinds"), settings.get("models_by_kind"), settings.get("parts")
        if not isinstance(kinds, list) or not _are_names(kinds) or not isinstance(members, list) or len(members) != len(kinds):
            raise QualityError(f"must name 2 to {MOST_KINDS} kinds of prompt and the models of each; the file is damaged")
        share = settings.get("share")
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share <= _LARGEST_SHARE:
            raise QualityError(f"its share must be above 0 and at most {_LARGEST_SHARE:g}; the file is damaged")
        are_usable = all(_are_numbers(each, len(models)) for each in members)
        if not are_usable:
            raise QualityError("its models are not those of its kinds of prompt; the file is damaged")

        def part(name: str, columns: tuple[str, ...]) -> Heads:
            about = parts.get(name) if isinstance(parts, dict) else None
            own = tensors.get(f"{name}.sample")
            if not isinstance(about, dict) or own is None or own.shape != (len(sample), len(columns)) or own.dtype.kind != "f":
                raise QualityError(f"its {name} lacks settings or a sample of {len(sample)} prompts; the file is damaged")
            if not ((own >= 0) & (own <= 1)).all():
                raise QualityError(f"the sample of its {name} has a score outside 0 to 1; the file is damaged")
            some = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
            return Heads.restore(columns, encoder, own.astype(np.float64), some, about)

        gate, of_all = part("gate", tuple(kinds)), part("all", models)
        experts = [part(f"expert{number}", tuple(models[m] for m in each)) for number, each in enumerate(members)]
        if len({each.scaling.word_bits for each in (gate, of_all, *experts)}) > 1:
            raise QualityError("its parts have tables of words of other sizes; the file is damaged")
        found = cls(models, encoder, gate, of_all, experts, float(share))
        found.sample = sample
        return found


def _are_names(value: list[Any]) -> bool:
    are_strings = 2 <= len(value) <= MOST_KINDS and all(isinstance(each, str) for each in value)
    return are_strings and len({*value}) == len(value)


def _are_numbers(value: Any, count: int) -> bool:
    """Whether these are numbers of models, each once and at least one."""
    if not isinstance(value, list) or not value:
        return False
    return all(type(each) is int and 0 <= each < count for each in value) and len({*value}) == len(value)
