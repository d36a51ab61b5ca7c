"""The fast decoder against llama.cpp's own grammar sampler: the same tokens allowed, the same route chosen."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from archroute_edge.conversation import Turn
from archroute_edge.decoding import AnswerSet, Decoded, GrammarDecoder, KVCache, SpeculativeDecoder
from archroute_edge.engine import (
    BatchToken,
    CompletionEngine,
    EngineName,
    EngineSettings,
    GrammarSampler,
    LoadedModel,
    Logits,
    open_engine,
    sequence_batch,
)
from archroute_edge.prompts import PROMPT_FORMATS, Answer, PromptBuilder, to_gbnf
from archroute_edge.routes import Route, RouteTable
from tools.fixtures.route_tables import AWKWARD_NAMES, random_conversation, random_table

# Rounding differs between one evaluation of many tokens and many of one (the KV cache holds F16). Over 25 cases the
# logits of the random model in F32 differed by at most 4e-4, their standard deviation being 0.4; decisions are compared
# where the margin is ten times that.
MARGIN = 5e-3
BUNDLED_MARGIN = 0.2


@pytest.fixture(scope="module", params=["llama.cpp", "ik"])
def engine(request: pytest.FixtureRequest) -> Iterator[CompletionEngine]:
    loaded: LoadedModel = request.getfixturevalue("ik_loaded" if request.param == "ik" else "random_loaded")
    engine = open_engine(loaded, EngineSettings(n_ctx=8192, n_threads=1))
    yield engine
    engine.close()


def emptied(engine: CompletionEngine) -> KVCache:
    """A cache over ``engine``, whose sequences are all empty."""
    for number in range(engine.n_sequences):
        engine.truncate(number, 0)
    return KVCache(engine)


def decode_both(
    engine: CompletionEngine, table: RouteTable, talks: Sequence[Sequence[Turn]], name: str
) -> Iterator[tuple[Decoded, Decoded]]:
    """What each decoder makes of each conversation, and the answers they chose from."""
    builder = PromptBuilder(engine.model, PROMPT_FORMATS[name])
    answers, static = AnswerSet(engine.model.vocabulary, builder.answers(table)), builder.static_parts(table)
    found = []
    for decoder in (SpeculativeDecoder(), GrammarDecoder(engine.model.vocabulary)):
        cache = emptied(engine)
        for turns in talks:
            prompt = builder.tokens(table, turns)
            with cache.working(prompt, static) as (work, _):
                found.append(decoder.decode(work, prompt[work.n_tokens :], answers))
    yield from zip(found[: len(talks)], found[len(talks) :], strict=True)


def margin(decoded: Decoded, answers: AnswerSet) -> float:
    """The smallest distance between the best and the second best allowed token on the way."""
    smallest = float("inf")
    consumed = b""
    for index, token in enumerate(decoded.path):
        row = decoded.observed.get(decoded.path[:index])
        allowed, pieces = answers.allowed(consumed)
        if row is not None and len(allowed) > 1:
            best, second = np.sort(row[allowed])[::-1][:2]
            smallest = min(smallest, float(best - second))
        consumed += pieces[token]
    return smallest


def compare_decoders(engine: CompletionEngine, seed: int, n_tables: int, least_margin: float, most_routes: int) -> int:
    """Compare the decoders on three conversations a table; returns how many cases were clear enough to compare."""
    draw = random.Random(seed)
    compared = 0
    for _ in range(n_tables):
        table, name = random_table(draw, most=most_routes), draw.choice(list(PROMPT_FORMATS))
        answers = AnswerSet(engine.model.vocabulary, PromptBuilder(engine.model, PROMPT_FORMATS[name]).answers(table))
        for fast, reference in decode_both(engine, table, [random_conversation(draw) for _ in range(3)], name):
            if margin(reference, answers) > least_margin:
                compared += 1
                assert fast.route == reference.route
                assert fast.path == reference.path[: len(fast.path)]
    return compared


def test_both_decoders_choose_the_same_route_with_random_weights(engine: CompletionEngine) -> None:
    """Would break if a guess were trusted that the model does not agree with, or a wrong token were allowed."""
    assert compare_decoders(engine, 0, n_tables=10, least_margin=MARGIN, most_routes=12) >= 22


@pytest.mark.parametrize("engine_name", ["llama.cpp", "ik"])
def test_both_decoders_choose_the_same_route_with_the_bundled_model(bundled_model: Path, engine_name: EngineName) -> None:
    """Would break if the two decoders differed where a model is trained: where guesses are right."""
    with LoadedModel(bundled_model, engine=engine_name) as model:
        engine = open_engine(model, EngineSettings(n_ctx=8192, n_threads=1))
        # Q8_0 rounds its activations, so its logits depend on the batch more than F32's do.
        assert compare_decoders(engine, 100, n_tables=4, least_margin=BUNDLED_MARGIN, most_routes=8) >= 9
        engine.close()


def test_rounding_is_smaller_than_the_margin_asked_for(engine: CompletionEngine) -> None:
    """Would break if the margin above hid real differences, or were smaller than llama.cpp's rounding."""
    draw = random.Random(99)
    for _ in range(5):
        for fast, reference in decode_both(engine, random_table(draw), [random_conversation(draw) for _ in range(2)], "card"):
            for path in fast.observed.keys() & reference.observed.keys():
                assert np.abs(fast.observed[path] - reference.observed[path]).max() < MARGIN / 3


@pytest.mark.parametrize("names", AWKWARD_NAMES, ids=lambda names: ",".join(names)[:30])
@pytest.mark.parametrize("format_name", ["card", "orchestrator"])
def test_the_allowed_tokens_are_exactly_those_of_llama_cpp(
    random_loaded: LoadedModel, engine: CompletionEngine, names: tuple[str, ...], format_name: str
) -> None:
    """Would break if a token that llama.cpp allows were missed (control tokens whose text a name holds), or one too many."""
    table = RouteTable(Route(name) for name in names)
    answers = AnswerSet(engine.model.vocabulary, PROMPT_FORMATS[format_name].answers(table))
    assert_same_tokens_at_every_step(random_loaded, answers, random.Random(0))


def assert_same_tokens_at_every_step(model: LoadedModel, answers: AnswerSet, draw: random.Random) -> None:
    vocabulary = model.vocabulary
    gbnf = to_gbnf(answers.answers)
    flat = np.zeros(vocabulary.n_tokens, np.float32)
    texts = {answer.raw for answer in answers.answers}
    for _ in range(len(texts) + 6):
        with GrammarSampler(vocabulary, gbnf) as sampler:
            consumed = b""
            while consumed not in texts:
                ours, pieces = answers.allowed(consumed)
                theirs = np.flatnonzero(sampler.allowed(flat))
                assert ours.tolist() == theirs.tolist(), f"after {consumed!r}"
                token = int(draw.choice(ours.tolist()))
                sampler.accept(token)
                consumed += pieces[token]


class AgreeingEngine:
    """An engine whose model always prefers the tokens of one answer: what a well-trained model does."""

    def __init__(self, engine: CompletionEngine, answer: Sequence[int], n_prompt: int) -> None:
        self._engine = engine
        self._answer = answer
        self._n_prompt = n_prompt
        self.n_ctx, self.n_sequences = engine.n_ctx, engine.n_sequences
        self.copy, self.truncate, self.save, self.load = engine.copy, engine.truncate, engine.save, engine.load

    def evaluate(self, batch: Sequence[BatchToken]) -> Logits:
        rows = self._engine.evaluate(batch)
        positions = [entry.position - self._n_prompt + 1 for entry in batch if entry.wants_logits]
        for row, index in zip(rows, positions, strict=True):
            if 0 <= index < len(self._answer):
                row[self._answer[index]] += 1000
        return rows


@pytest.mark.parametrize(
    ("wanted", "n_evaluations"),
    [("bug_fixing", 1), ("api_help", 1), ("other", 1), ("code_generation", 2), ("code_fixing", 2)],
)
def test_a_model_that_agrees_with_the_guess_needs_an_evaluation_a_branch(
    engine: CompletionEngine, wanted: str, n_evaluations: int
) -> None:
    """Would break if the tokens that answers share were decoded one at a time, before a branch or after it."""
    table = RouteTable(Route(name) for name in ("bug_fixing", "api_help", "code_generation", "code_fixing"))
    builder = PromptBuilder(engine.model, PROMPT_FORMATS["card"])
    prompt, static = builder.tokens(table, [Turn("user", "hello")]), builder.static_parts(table)
    (text,) = (answer.text for answer in builder.answers(table) if answer.route == wanted)
    agreeing = AgreeingEngine(engine, engine.model.vocabulary.tokenize(text), len(prompt))
    emptied(engine)
    cache = KVCache(agreeing)
    cache.make_resident(static.prefix)
    answers = AnswerSet(engine.model.vocabulary, builder.answers(table))
    with cache.working(prompt, static) as (work, n_reused):
        decoded = SpeculativeDecoder().decode(work, prompt[work.n_tokens :], answers)
    assert decoded.route == wanted
    assert work.n_evaluations == n_evaluations
    if n_evaluations == 1:
        assert work.n_evaluated == len(prompt) - n_reused + len(engine.model.vocabulary.tokenize('{"route": "'))


def test_ties_go_to_the_lowest_id(engine: CompletionEngine) -> None:
    """Would break if equal logits were decided by the order of a dictionary."""
    answers = AnswerSet(engine.model.vocabulary, [Answer("ab", "x"), Answer("cd", "y")])

    class Flat(AgreeingEngine):
        def evaluate(self, batch: Sequence[BatchToken]) -> Logits:
            return np.zeros_like(super().evaluate(batch))

    emptied(engine)
    flat = Flat(engine, [], 0)
    prompt = engine.model.vocabulary.tokenize("hello there")
    builder = PromptBuilder(engine.model, PROMPT_FORMATS["card"])
    static = builder.static_parts(RouteTable([Route("a")]))
    with KVCache(flat).working([*static.prefix, *prompt], static) as (work, _):
        decoded = SpeculativeDecoder().decode(work, prompt, answers)
    ids = engine.model.vocabulary.tokens_by_piece
    lowest = min(ids[b"a"] + ids[b"c"])
    assert decoded.path[0] == lowest


def test_sequence_batch_marks_the_logits_asked_for() -> None:
    """Would break if logits came from the wrong position."""
    batch = sequence_batch(3, [7, 8, 9], 10, [0, 2])
    assert [(each.token, each.position, each.sequences, each.wants_logits) for each in batch] == [
        (7, 10, (3,), True),
        (8, 11, (3,), False),
        (9, 12, (3,), True),
    ]
