"""``heads`` for prompts of several kinds: heads of their own for each kind, weighed by how likely a prompt is of it.

A model that solves equations well may know little law, and what is hard in one set of prompts is not what is hard in another.
So each kind has heads of its own, its experts, and a gate says how likely a prompt is of each kind: a mixture of experts
(Jacobs et al. 1991, "Adaptive mixtures of local experts"). A model counts where it has outcomes: its expected score is the
mean over the kinds whose experts know it, weighed by these chances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import QualityError
from archroute_edge.quality._heads import Heads, chances
from archroute_edge.quality._outcomes import Outcomes, Scores
from archroute_edge.quality._predictor import Policy, Predictor, PromptFeatures
from archroute_edge.quality._text_features import ReadText, read_text

MOST_KINDS: Final = 32
"""A predictor's time for a prompt, and its file, grow with them."""

# With fewer graded prompts of a kind, a new model is placed by all of them.
_FEWEST_GRADED: Final = 20


class HeadsByKind(Predictor):
    """A mixture of heads.

    Args:
        models: k names.
        encoder: identity of the encoder; None if no vectors are read.
        gate: heads whose models are the kinds: the chance that a prompt is of each.
        experts: the heads of each kind, of some of the models. They have as many cells of words as the gate, and samples of the
            same prompts.
    """

    policy: ClassVar[Policy] = "heads"

    def __init__(self, models: tuple[str, ...], encoder: str | None, gate: Heads, experts: Sequence[Heads]) -> None:
        self.gate, self.experts = gate, tuple(experts)
        self._columns = [np.array([models.index(name) for name in each.models], np.intp) for each in experts]
        super().__init__(models, encoder, np.empty(0))
        # With the digits that a file keeps.
        self.sample = self.mean(gate.sample, [each.sample for each in experts]).astype(np.float32).astype(np.float64)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds, as the outcomes had them."""
        return self.gate.models

    def expected(self, features: PromptFeatures) -> Scores:
        """As :meth:`Predictor.expected` says; prompt by prompt, and each is read once."""
        return self.mean(*self._of_kinds(features))

    def _of_kinds(self, features: PromptFeatures) -> tuple[Scores, list[Scores]]:
        bits = self.gate.scaling.word_bits
        return self.of_kinds([read_text(text, bits) for text in features.texts], self.gate.vectors_of(features))

    def of_kinds(self, read: Sequence[ReadText], vectors: npt.NDArray[np.float32] | None) -> tuple[Scores, list[Scores]]:
        """(n, kinds) chances, and (n, models of the kind) expected scores of each kind, for texts that were read already."""
        chances_of, *expected = (chances(heads.logits_of(read, vectors)) for heads in (self.gate, *self.experts))
        return chances_of, expected

    def mean(self, chances_of: Scores, expected: Sequence[Scores]) -> Scores:
        """(n, k) from the chances of the kinds and what each kind's experts expect of their models."""
        total = np.zeros((len(chances_of), len(self.models)))
        shares = np.zeros_like(total)
        for chance, scores, columns in zip(chances_of.T, expected, self._columns, strict=True):
            total[:, columns] += chance[:, None] * scores
            shares[:, columns] += chance[:, None]
        found: Scores = np.clip(total / shares, 0.0, 1.0)
        return found

    def with_model(self, model: str, graded: Outcomes, features: PromptFeatures) -> HeadsByKind:
        """As :meth:`Predictor.with_model` says; a head more in each kind that enough of the graded prompts are of.

        If no kind has enough, all of them place it in the kind that they are most likely of.
        """
        if model in self.models:
            raise QualityError(f"the predictor has the model {model!r} already; take another name, or train again")
        if len(graded.prompts) != len(features):
            raise QualityError(f"{len(graded.prompts)} prompts are graded, and {len(features)} have features")
        scores = graded.columns((model,)).scores[:, 0]
        chances_of = self.gate.expected(features)
        kind = np.where(np.isnan(scores), -1, chances_of.argmax(axis=1))
        counts = [int((kind == number).sum()) for number in range(len(self.experts))]
        known = ~np.isnan(scores)
        chosen = {n: np.flatnonzero(kind == n) for n, count in enumerate(counts) if count >= _FEWEST_GRADED}
        if not chosen:
            number = int(chances_of[known].sum(axis=0).argmax()) if known.any() else 0
            chosen = {number: np.arange(len(scores))}
        experts = [
            expert.with_model(model, graded.rows(chosen[number]), features.rows(chosen[number])) if number in chosen else expert
            for number, expert in enumerate(self.experts)
        ]
        found = HeadsByKind((*self.models, model), self.encoder, self.gate, experts)
        found.sample[:, :-1] = self.sample
        return found

    def replace_sample(self, scores: Scores, features: PromptFeatures) -> None:
        """As :meth:`Predictor.replace_sample` says; a model that is added later needs what each kind expects of the prompts."""
        found = self.with_samples(*self._of_kinds(features))
        self.gate, self.experts, self.sample = found.gate, found.experts, scores

    def with_samples(self, chances_of: Scores, expected: Sequence[Scores]) -> HeadsByKind:
        """This one with another sample, of which each kind has that chance and expects that."""
        gate, *experts = (
            Heads(heads.models, heads.encoder, sample, heads.scaling, heads.weights)
            for heads, sample in zip((self.gate, *self.experts), (chances_of, *expected), strict=True)
        )
        return HeadsByKind(self.models, self.encoder, gate, experts)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """As :meth:`Predictor.tensors` says: those of the gate and of each expert, with their samples."""
        return {
            f"{part}.{name}": tensor
            for part, heads in self._parts()
            for name, tensor in {**heads.tensors(), "sample": heads.sample.astype(np.float32)}.items()
        }

    def settings(self) -> dict[str, Any]:
        """As :meth:`Predictor.settings` says."""
        return {
            "kinds": list(self.kinds),
            "models_by_kind": [[self.models.index(name) for name in each.models] for each in self.experts],
            "parts": {part: heads.settings() for part, heads in self._parts()},
        }

    def _parts(self) -> list[tuple[str, Heads]]:
        return [("gate", self.gate), *((f"expert{number}", expert) for number, expert in enumerate(self.experts))]

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
        are_usable = all(_are_numbers(each, len(models)) for each in members)
        if not are_usable or {number for each in members for number in each} != {*range(len(models))}:
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

        gate = part("gate", tuple(kinds))
        if not (gate.sample > 0).all():
            raise QualityError("the sample of its gate has a chance of 0; the file is damaged")
        experts = [part(f"expert{number}", tuple(models[m] for m in each)) for number, each in enumerate(members)]
        if {each.scaling.word_bits for each in experts} != {gate.scaling.word_bits}:
            raise QualityError("its gate and its experts have tables of words of other sizes; the file is damaged")
        found = cls(models, encoder, gate, experts)
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
