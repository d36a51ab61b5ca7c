"""Routes that take what fits no other are told from routes with a subject, and only they get what `other` had."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from archroute_edge.deciders._encoder_scale import EncoderScale
from training.mini.catch_all import CatchAll, _fit
from training.mini.harness import Question
from training.mini.references import References
from training.mini.scoring import Calibration, score, tally


def test_the_fit_finds_what_they_have_in_common() -> None:
    """Among thousands of others, some of them in nearly the same direction."""
    generator = torch.Generator().manual_seed(5)
    rows = torch.nn.functional.normalize(torch.randn(3000, 32, generator=generator), dim=1)
    kinds = [rows[:100].clone(), rows[100:200].clone(), rows[200:]]
    kinds[0][:, 3] += 1.0
    kinds[1][:, 3] += 0.4
    found = _fit([torch.nn.functional.normalize(each, dim=1) for each in kinds])
    assert float(found.direction.norm()) == pytest.approx(1)
    told = [found.tells(torch.nn.functional.normalize(each, dim=1)).float().mean() for each in kinds]
    assert told[0] > 0.8
    assert told[1] < 0.1
    assert told[2] < 0.01


def test_it_tells_the_same_as_the_decider() -> None:
    rows = torch.nn.functional.normalize(torch.randn(200, 32, generator=torch.Generator().manual_seed(6)), dim=1)
    found = CatchAll(rows[:1], 0.15)
    scale = EncoderScale(catch_all=found.direction.numpy(), catch_all_bound=found.bound)
    told = found.tells(rows).tolist()
    assert 1 < sum(told) < 100
    assert told == scale.catches_all(rows.numpy()).tolist()


def test_figures_count_what_such_a_route_takes() -> None:
    vectors = {
        "a": torch.tensor([1.0, 0.0, 0.0]),
        "rest": torch.tensor([0.0, 1.0, 0.0]),
        "for a": torch.tensor([0.96, 0.0, 0.28]),
        "for none": torch.tensor([0.0, 0.0, 1.0]),
    }
    routes = {"a": "a", "rest": "rest"}
    asked = [Question(routes, "for a", "a", "fits"), Question(routes, "for none", "rest", "fits none")]
    references, topics = References(torch.ones(1, 3, dtype=torch.int8)), torch.full((1, 3), -5.0)

    def embed(texts: object) -> torch.Tensor:
        return torch.stack([vectors[str(text)] for text in texts])  # type: ignore[attr-defined]

    calibration = Calibration(other_cosine=0.5)
    without = score(asked, embed, references, topics)
    assert tally(without, calibration) == {"fits": (1, 1.0), "fits none": (1, 0.0)}
    takes = CatchAll(vectors["rest"][None], 0.9)
    both = [replace(each, routes={**routes, "default": "rest"}) for each in asked]
    assert tally(score(both, embed, references, topics, takes), calibration) == {"fits": (1, 1.0), "fits none": (1, 1.0)}
    assert tally(score(asked, embed, references, topics, takes), calibration) == {"fits": (1, 1.0), "fits none": (1, 1.0)}
