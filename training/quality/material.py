"""What is trained on: outcomes without whole categories, and without the prompts that expected scores are fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archroute_edge.quality import Outcomes, folds, read_outcomes, split_by_category

_PARTS = 5


@dataclass(frozen=True)
class Material:
    """Outcomes by what they are for; no text is in both.

    Attributes:
        trained: what a model is trained on.
        fitted: what its values or its calibration are fitted on, a fifth: of prompts that it was trained on it is too sure.
    """

    trained: Outcomes
    fitted: Outcomes


def read_material(outcomes: Sequence[str], left_out: Sequence[str], seed: int) -> Material:
    """The outcomes of files, without the categories ``left_out``; the same parts for the same seed."""
    found = read_outcomes(outcomes)
    if left_out:
        found = found.rows(split_by_category(found, left_out).train)
    part = folds(found, _PARTS, "prompt", seed)[0]
    trained = found.rows(part.train)
    # A model whose outcomes are all in the other part cannot be learned.
    known = trained.scored_models
    return Material(trained.columns(known), found.rows(part.test).columns(known))
