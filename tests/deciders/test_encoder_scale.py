"""What an encoder's GGUF says of its scale, of `other` and of hubness, and what becomes of it in the scores."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest

from archroute_edge import OTHER, Router
from archroute_edge.deciders import (
    CATCH_ALL_BOUND_KEY,
    CATCH_ALL_KEY,
    HUBNESS_NEIGHBOURS_KEY,
    HUBNESS_WEIGHT_KEY,
    OTHER_COSINE_KEY,
    OTHER_KNOWN_KEY,
    OTHER_NEARNESS_KEY,
    OTHER_ROUTES_KEY,
    REFERENCES_KEY,
    SCALE_KEY,
    TEXT_FORMAT_KEY,
    TOPIC_SHIFT_KEY,
    TOPICS_KEY,
    route_text,
)
from archroute_edge.deciders._encoder_scale import INT8, UINT64
from archroute_edge.engine import EmbeddingEngine, LoadedModel
from archroute_edge.errors import ModelFileError
from tests.deciders.test_encoder import MESSAGES, ROUTES
from tests.engine.gguf_file import ARRAY, FLOAT32, STRING, UINT32, read_gguf


def calibrated(source: Path, target: Path, scale: float, other_cosine: float) -> Path:
    file = read_gguf(source)
    file.set(SCALE_KEY, FLOAT32, scale)
    file.set(OTHER_COSINE_KEY, FLOAT32, other_cosine)
    file.set(TEXT_FORMAT_KEY, UINT32, 1)
    return file.write(target)


def test_scores_are_the_softmax_of_scaled_cosines(random_encoder: Path, tmp_path: Path) -> None:
    """With `other` at its own cosine; they sum to 1, and the route is the best of them."""
    path = calibrated(random_encoder, tmp_path / "m.gguf", 7.5, 0.25)
    with LoadedModel(path, wanted="encoder") as model:
        engine = EmbeddingEngine(model, 1)
        routes = engine.embed([engine.encode(route_text(route)) for route in ROUTES])
        messages = engine.embed([engine.encode(message) for message in MESSAGES])
        engine.close()
    with Router(ROUTES, model=path, prefix_cache=False) as router:
        for message, vector in zip(MESSAGES, messages, strict=True):
            decision = router.route(message, scores=True)
            weights = [math.exp(7.5 * float(cosine)) for cosine in [*(routes @ vector), 0.25]]
            assert decision.scores is not None
            assert decision.scores == pytest.approx(
                dict(zip([*router.config.table.names, OTHER], np.array(weights) / sum(weights), strict=True)), abs=1e-4
            )
            assert sum(decision.scores.values()) == pytest.approx(1)
            assert decision.confidence == max(decision.scores.values()) == decision.scores[decision.route]


@pytest.mark.parametrize("element", [INT8, UINT64])
def test_what_makes_a_route_near_to_everything_is_taken_off_its_cosines(
    random_encoder: Path, tmp_path: Path, element: int
) -> None:
    """A half of the mean of the two largest cosines to the references, whose rows are of any length; also of saved vectors."""
    file = read_gguf(calibrated(random_encoder, tmp_path / "m.gguf", 7.5, 0.25))
    width = file["bert.embedding_length"].value
    rows = np.random.default_rng(3).integers(-127, 128, (5, width)).astype(np.int8)
    file.set(REFERENCES_KEY, ARRAY, rows.ravel().view("<u8" if element == UINT64 else "i1").tolist(), element)
    file.set(HUBNESS_WEIGHT_KEY, FLOAT32, 0.5)
    file.set(HUBNESS_NEIGHBOURS_KEY, UINT32, 2)
    path = file.write(tmp_path / "hubs.gguf")
    with LoadedModel(path, wanted="encoder") as model:
        engine = EmbeddingEngine(model, 1)
        routes = engine.embed([engine.encode(route_text(route)) for route in ROUTES])
        message = engine.embed([engine.encode(MESSAGES[0])])[0]
        engine.close()
    near = np.sort(routes @ (rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)).T)[:, -2:].mean(axis=1)
    weights = np.exp(7.5 * np.array([*(routes @ message - 0.5 * near), 0.25]))
    for _ in range(2):
        with Router(ROUTES, model=path, prefix_cache=tmp_path / "kept") as router:
            scores = router.route(MESSAGES[0], scores=True).scores
        assert scores is not None
        assert list(scores.values()) == pytest.approx(list(weights / weights.sum()), abs=1e-4)


def test_other_depends_on_the_table_and_on_topics_of_its_own(random_encoder: Path, tmp_path: Path) -> None:
    """The formula of docs/encoder.md, computed here once more: routes, their nearness, hubness of the message, topics."""
    file = read_gguf(calibrated(random_encoder, tmp_path / "m.gguf", 7.5, 0.25))
    width = file["bert.embedding_length"].value
    generator = np.random.default_rng(3)
    rows, topics = generator.integers(-127, 128, (5, width)), generator.normal(size=(2, width)).astype(np.float32)
    file.set(REFERENCES_KEY, ARRAY, rows.ravel().tolist(), INT8)
    file.set(TOPICS_KEY, ARRAY, topics.ravel().tolist(), FLOAT32)
    file.set(HUBNESS_NEIGHBOURS_KEY, UINT32, 2)
    numbers = {
        HUBNESS_WEIGHT_KEY: 0.0,
        OTHER_ROUTES_KEY: 0.2,
        OTHER_NEARNESS_KEY: -0.3,
        OTHER_KNOWN_KEY: 0.4,
        TOPIC_SHIFT_KEY: -0.1,
    }
    for key, value in numbers.items():
        file.set(key, FLOAT32, value)
    path = file.write(tmp_path / "other.gguf")
    with LoadedModel(path, wanted="encoder") as model:
        engine = EmbeddingEngine(model, 1)
        routes = engine.embed([engine.encode(route_text(route)) for route in ROUTES])
        message = engine.embed([engine.encode(MESSAGES[0])])[0]
        engine.close()
    known = np.sort((rows / np.linalg.norm(rows, axis=1, keepdims=True)) @ message)[-2:].mean()
    nearness = np.mean([max(float(a @ b) for m, b in enumerate(routes) if m != n) for n, a in enumerate(routes)])
    bound = 0.25 + 0.2 * math.log(len(ROUTES) / 8) - 0.3 * nearness + 0.4 * known
    other = math.exp(7.5 * bound) + sum(math.exp(7.5 * (float(topic @ message) - 0.1)) for topic in topics)
    weights = np.array([*np.exp(7.5 * (routes @ message)), other])
    with Router(ROUTES, model=path, prefix_cache=False) as router:
        scores = router.route(MESSAGES[0], scores=True).scores
    assert scores is not None
    assert list(scores.values()) == pytest.approx(list(weights / weights.sum()), abs=1e-4)


def test_other_wins_where_no_route_reaches_its_cosine(random_encoder: Path, tmp_path: Path) -> None:
    for cosine, expected in ((1.0, True), (-1.0, False)):
        path = calibrated(random_encoder, tmp_path / f"{cosine}.gguf", 30.0, cosine)
        with Router(ROUTES, model=path, prefix_cache=False) as router:
            decisions = router.route_many(MESSAGES)
        assert [decision.route == OTHER for decision in decisions] == [expected] * len(MESSAGES)
        assert [decision.matched for decision in decisions] == [not expected] * len(MESSAGES)


def test_one_that_has_none_says_so_once(random_encoder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Router(ROUTES, model=random_encoder, prefix_cache=False) as router:
        router.route_many(MESSAGES)
        router.route("x")
    assert caplog.text.count("is not calibrated for routing") == 1


def test_one_that_has_says_nothing(random_encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = calibrated(random_encoder, tmp_path / "m.gguf", 10.0, 0.5)
    with caplog.at_level(logging.WARNING), Router(ROUTES, model=path, prefix_cache=False) as router:
        router.route("x")
    assert caplog.text == ""


def test_a_route_that_catches_all_takes_the_probability_of_other(random_encoder: Path, tmp_path: Path) -> None:
    """Of those whose cosine with the file's direction reaches its bound the likeliest, also with vectors that were saved."""
    plain = calibrated(random_encoder, tmp_path / "m.gguf", 7.5, 0.25)
    with LoadedModel(plain, wanted="encoder") as model:
        engine = EmbeddingEngine(model, 1)
        routes = engine.embed([engine.encode(route_text(route)) for route in ROUTES])
        engine.close()
    cosines = np.sort(routes @ routes[1])
    with Router(ROUTES, model=plain, prefix_cache=False) as router:
        before = router.route(MESSAGES[0], scores=True).scores
    assert before is not None
    for n_takers in (1, 2, 0):
        file = read_gguf(plain)
        file.set(CATCH_ALL_KEY, ARRAY, routes[1].tolist(), FLOAT32)
        bound = (cosines[-n_takers - 1] + cosines[-n_takers]) / 2 if n_takers else 1.5
        file.set(CATCH_ALL_BOUND_KEY, FLOAT32, float(bound))
        path = file.write(tmp_path / f"{n_takers}.gguf")
        wanted = np.array(list(before.values()))
        if n_takers:
            likeliest = int(np.where(routes @ routes[1] >= bound, wanted[:-1], 0).argmax())
            wanted[[likeliest, -1]] = wanted[likeliest] + before[OTHER], 0
        for _ in range(2):
            with Router(ROUTES, model=path, prefix_cache=tmp_path / "kept") as router:
                decision = router.route(MESSAGES[0], scores=True)
            assert decision.scores is not None
            assert list(decision.scores.values()) == pytest.approx(wanted.tolist(), abs=1e-6)
            assert decision.confidence == max(decision.scores.values()) == decision.scores[decision.route]


@pytest.mark.parametrize(
    ("key", "kind", "value", "message"),
    [
        (SCALE_KEY, FLOAT32, 0.0, "must be a number from 0.001 to 10000"),
        (SCALE_KEY, FLOAT32, float("nan"), "must be a number from 0.001 to 10000"),
        (OTHER_COSINE_KEY, FLOAT32, 101.0, "must be a number from -100 to 100"),
        (OTHER_COSINE_KEY, STRING, b"0.5", "must be a number from -100 to 100"),
        (OTHER_ROUTES_KEY, FLOAT32, float("nan"), "must be a number from -100 to 100"),
        (TOPIC_SHIFT_KEY, STRING, b"0", "must be a number from -100 to 100"),
        (TEXT_FORMAT_KEY, UINT32, 2, "trained on texts of version 2, and this archroute-edge makes version 1"),
    ],
)
def test_numbers_that_cannot_be(random_encoder: Path, tmp_path: Path, key: str, kind: int, value: object, message: str) -> None:
    file = read_gguf(calibrated(random_encoder, tmp_path / "m.gguf", 10.0, 0.5))
    file.set(key, kind, value)
    with pytest.raises(ModelFileError, match=message):
        Router(ROUTES, model=file.write(tmp_path / "m.gguf"), prefix_cache=False)


@pytest.mark.parametrize(
    ("key", "kind", "value", "element", "message"),
    [
        (REFERENCES_KEY, ARRAY, [1] * 33, INT8, "has no rows of 64 numbers of 8 bits"),
        (REFERENCES_KEY, ARRAY, [1] * 9, UINT64, "has no rows of 64 numbers of 8 bits"),
        (REFERENCES_KEY, ARRAY, [1.0] * 128, FLOAT32, "has no rows of 64 numbers of 8 bits"),
        (REFERENCES_KEY, ARRAY, [], INT8, "has no rows of 64 numbers of 8 bits"),
        (REFERENCES_KEY, ARRAY, [1] * 64 + [0] * 64, INT8, "has a row of zeros"),
        (TOPICS_KEY, ARRAY, [1.0] * 63, FLOAT32, "has no rows of 64 numbers of type float32"),
        (TOPICS_KEY, ARRAY, [1] * 64, INT8, "has no rows of 64 numbers of type float32"),
        (TOPICS_KEY, ARRAY, [float("inf")] * 64, FLOAT32, "has a number beyond 100"),
        (CATCH_ALL_KEY, ARRAY, [1.0] * 65, FLOAT32, "has no rows of 64 numbers of type float32"),
        (CATCH_ALL_KEY, ARRAY, [float("nan")] * 64, FLOAT32, "has a number beyond 100"),
        (CATCH_ALL_BOUND_KEY, FLOAT32, float("nan"), 0, "must be a number from -100 to 100"),
        (HUBNESS_WEIGHT_KEY, FLOAT32, float("nan"), 0, "must be a number from 0 to 2"),
        (HUBNESS_NEIGHBOURS_KEY, UINT32, 3, 0, "must be a whole number from 1 to 2"),
        (HUBNESS_NEIGHBOURS_KEY, STRING, b"1", 0, "must be a whole number from 1 to 2"),
    ],
)
def test_references_that_cannot_be(
    random_encoder: Path, tmp_path: Path, key: str, kind: int, value: object, element: int, message: str
) -> None:
    file = read_gguf(calibrated(random_encoder, tmp_path / "m.gguf", 10.0, 0.5))
    assert file["bert.embedding_length"].value == 64
    file.set(REFERENCES_KEY, ARRAY, [1] * 128, INT8)
    file.set(HUBNESS_WEIGHT_KEY, FLOAT32, 0.5)
    file.set(HUBNESS_NEIGHBOURS_KEY, UINT32, 1)
    file.set(key, kind, value, element)
    with pytest.raises(ModelFileError, match=message):
        Router(ROUTES, model=file.write(tmp_path / "m.gguf"), prefix_cache=False)
