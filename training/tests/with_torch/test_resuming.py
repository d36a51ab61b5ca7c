"""A training that was interrupted and goes on ends as one that was not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.mini.batches import Shape
from training.mini.catalogue import Catalogue
from training.mini.embedding import Encoder
from training.mini.languages import LanguageSampler
from training.mini.tables import TableSampler
from training.mini.training import ANSWERS, FROZEN_LAYERS, Job, Recipe, train
from training.tests.mini.small_base import LAYERS
from training.tiny.checkpoint import save_state

# The workers are forked, of which newer Pythons warn in a process that has threads.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
SMALL = Recipe(steps=4, shape=Shape(1, 3, 2, 3, 6, 4), save_every=2)


@pytest.fixture(scope="module")
def job(steered: Catalogue, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    sampler = TableSampler(steered, {kind.id: frozenset(kind.near) for kind in steered.kinds.values()})
    languages = LanguageSampler(steered.languages, steered.held_out)
    return Job(sampler, languages, start, tmp_path_factory.mktemp("whole") / "out", SMALL, resume=False)


@pytest.fixture(scope="module")
def whole(job: Job) -> Path:
    """A training without a break."""
    train(job)
    return job.out


def test_it_ends_the_same(job: Job, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def save_and_die(file: Path, state: dict[str, object]) -> None:
        save_state(file, state)
        raise RuntimeError("power cut")

    broken = replace(job, out=tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr("training.mini.training.save_state", save_and_die)
        with pytest.raises(Exception, match="power cut"):
            train(broken)
    assert not broken.out.exists()
    train(replace(broken, resume=True))
    once, twice = (load_file(folder / "model.safetensors") for folder in (whole, broken.out))
    assert all(torch.equal(once[name], twice[name]) for name in once)
    answers = [torch.load(folder / ANSWERS, weights_only=True) for folder in (whole, broken.out)]
    assert all(torch.equal(answers[0][name], answers[1][name]) for name in answers[0])


def test_a_training_goes_on_from_the_end_of_another(job: Job, whole: Path, tmp_path: Path) -> None:
    """What was learned beside the encoder goes with it."""
    second = replace(job, start=whole, out=tmp_path / "second", recipe=replace(SMALL, steps=1, rate=0.0, answer_rate=0.0))
    train(second)
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, second.out))
    assert all(torch.equal(one[name], other[name]) for name in one)
    learned = [torch.load(folder / ANSWERS, weights_only=True) for folder in (whole, second.out)]
    assert all(torch.equal(learned[0][name], learned[1][name]) for name in learned[0])


def test_a_text_has_one_vector_whatever_shares_its_row(start: Path) -> None:
    """Of texts that saw one another, or another text's positions, the vectors would depend on the batch."""
    encoder = Encoder(start)
    texts = [f"{'request ' * n}bank" for n in (1, 2, 5, 9, 20, 40, 60, 90)] + ["the bank", "the bank", ""]
    together = encoder.embed(texts, 96)
    alone = torch.cat([encoder.embed([text], 96) for text in texts])
    assert torch.allclose(together, alone, atol=1e-5)
    assert len({tuple(row.tolist()) for row in together}) == len(set(texts))


def test_the_upper_layers_are_trained_and_nothing_else(start: Path, whole: Path) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (start, whole))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {int(name.split(".")[2]) for name in changed} == set(range(FROZEN_LAYERS, LAYERS))


def test_a_trained_checkpoint_is_read_like_the_base(start: Path, whole: Path) -> None:
    texts = ["the request", "banking?"]
    before, after = (Encoder(folder).embed(texts, 32) for folder in (start, whole))
    assert before.shape == after.shape and not torch.equal(before, after)
    assert after.norm(dim=1).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
