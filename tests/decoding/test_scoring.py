"""Confidence and scores: a probability over the answers, the same however it is computed."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

import numpy as np
import pytest

from archroute_edge.conversation import Turn
from archroute_edge.decoding import AnswerScorer, AnswerSet, GrammarDecoder, KVCache, SpeculativeDecoder
from archroute_edge.engine import CompletionEngine, EngineSettings, LoadedModel, open_engine, sequence_batch
from archroute_edge.prompts import CARD, PromptBuilder
from archroute_edge.routes import Route, RouteTable
from tools.fixtures.route_tables import random_conversation, random_table


@pytest.fixture(scope="module", params=["llama.cpp", "ik"])
def engine(request: pytest.FixtureRequest) -> Iterator[CompletionEngine]:
    loaded: LoadedModel = request.getfixturevalue("ik_loaded" if request.param == "ik" else "random_loaded")
    engine = open_engine(loaded, EngineSettings(n_ctx=8192, n_threads=1))
    yield engine
    engine.close()


def reference_scores(engine: CompletionEngine, prompt: list[int], answers: AnswerSet) -> dict[str, float]:
    """The definition, one answer and one token at a time: p(token) over the sum of p of its siblings in the trie."""
    beginnings = {path[:length] for path in answers.canonical for length in range(len(path) + 1)}
    scores: dict[str, float] = {}
    for answer, path in zip(answers.answers, answers.canonical, strict=True):
        engine.truncate(0, 0)
        rows = engine.evaluate(sequence_batch(0, [*prompt, *path], 0, range(len(prompt) - 1, len(prompt) + len(path) - 1)))
        log_probability = 0.0
        for index, token in enumerate(path):
            siblings = [token for token in range(rows.shape[1]) if (*path[:index], token) in beginnings]
            row = rows[index].astype(np.float64)
            log_probability += row[token] - np.log(np.exp(row[siblings]).sum())
        scores[answer.route] = scores.get(answer.route, 0.0) + math.exp(log_probability)
    engine.truncate(0, 0)
    return scores


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decoder_name", ["fast", "grammar"])
def test_scores_are_what_they_are_defined_to_be(engine: CompletionEngine, seed: int, decoder_name: str) -> None:
    """Would break if a branch were scored after the wrong tokens, a spelling forgotten, or siblings mixed up."""
    draw = random.Random(seed)
    table, turns = random_table(draw, most=6), random_conversation(draw)
    builder = PromptBuilder(engine.model, CARD)
    answers = AnswerSet(engine.model.vocabulary, builder.answers(table))
    prompt, static = builder.tokens(table, turns), builder.static_parts(table)
    expected = reference_scores(engine, prompt, answers)
    scorer = AnswerScorer(answers)
    decoder = SpeculativeDecoder() if decoder_name == "fast" else GrammarDecoder(engine.model.vocabulary)
    for number in range(engine.n_sequences):
        engine.truncate(number, 0)
    cache = KVCache(engine)
    with cache.working(prompt, static) as (work, _):
        decoded = decoder.decode(work, prompt[work.n_tokens :], answers)
        scores = scorer.scores(work, len(prompt), decoded)
        confidence = scorer.confidence(work, len(prompt), decoded)
    assert sum(expected.values()) == pytest.approx(1, abs=1e-3)
    assert scores.keys() == expected.keys()
    for route, score in scores.items():
        assert score == pytest.approx(expected[route], abs=2e-3)
    assert confidence == pytest.approx(scores[decoded.route], abs=2e-3)
    assert sum(scores.values()) == pytest.approx(1)


def test_scoring_many_routes_works_in_chunks(engine: CompletionEngine) -> None:
    """Would break if more branches than free sequences were asked for at once."""
    table = RouteTable(Route("".join(letters)) for letters in itertools.product("abcdef", "ghijkl", "mnop"))
    builder = PromptBuilder(engine.model, CARD)
    answers = AnswerSet(engine.model.vocabulary, builder.answers(table))
    prompt, static = builder.tokens(table, [Turn("user", "hello")]), builder.static_parts(table)
    for number in range(engine.n_sequences):
        engine.truncate(number, 0)
    with KVCache(engine).working(prompt, static) as (work, _):
        decoded = SpeculativeDecoder().decode(work, prompt[work.n_tokens :], answers)
        scores = AnswerScorer(answers).scores(work, len(prompt), decoded)
    assert len(scores) == len(table) + 1
    assert sum(scores.values()) == pytest.approx(1)
    assert min(scores.values()) > 0
