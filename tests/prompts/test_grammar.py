"""Grammars allow exactly the answers, and llama.cpp, which crashes on a malformed one, reads them as they are meant."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archroute_edge.engine import GrammarSampler, LoadedModel
from archroute_edge.engine._vocabulary import Vocabulary
from archroute_edge.errors import GrammarError
from archroute_edge.prompts import CARD, Answer, PromptFormat, common_prefix, to_gbnf
from archroute_edge.prompts._prompt_formats import ORCHESTRATOR
from archroute_edge.routes import MAX_ROUTES, Route, RouteTable
from tests.gbnf import read_gbnf
from tools.fixtures.route_tables import AWKWARD_NAMES

# A name of any Unicode, as routes may have it.
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: bool(name.strip()) and unicodedata.normalize("NFC", name) != "other"
)
TABLES = st.lists(NAMES, min_size=1, max_size=8, unique_by=lambda name: unicodedata.normalize("NFC", name)).map(
    lambda names: RouteTable([Route(name) for name in names])
)


def table(*names: str) -> RouteTable:
    return RouteTable([Route(name) for name in names])


def texts(answers: tuple[Answer, ...]) -> list[str]:
    return [answer.text for answer in answers]


@settings(max_examples=200)
@given(TABLES, st.sampled_from([CARD, ORCHESTRATOR]))
def test_the_grammar_reads_back_as_the_answers(routes: RouteTable, prompt_format: PromptFormat) -> None:
    """A character that is escaped wrongly makes a route that can never be answered."""
    answers = prompt_format.answers(routes)
    assert read_gbnf(to_gbnf(answers)) == texts(answers)
    assert to_gbnf(answers).isascii()


@given(TABLES)
def test_every_route_has_its_spellings_and_only_those(routes: RouteTable) -> None:
    """The card's prompt shows a name escaped, and a model may well answer it raw: both mean the route."""
    answers = CARD.answers(routes)
    for route in routes:
        mine = [json.loads(answer.text)["route"] for answer in answers if answer.route == route.name]
        assert mine == [route.name] * (1 if json.dumps(route.name) == json.dumps(route.name, ensure_ascii=False) else 2)
    assert [answer.text for answer in answers if answer.route == "other"] == ['{"route": "other"}']
    assert len(set(texts(answers))) == len(answers)


@given(TABLES)
def test_no_answer_begins_another(routes: RouteTable) -> None:
    """Where one answer begins another, ending it would compete with going on, and the decoders would differ."""
    raw = [answer.raw for answer in CARD.answers(routes)]
    assert not any(one != two and two.startswith(one) for one in raw for two in raw)


@pytest.mark.parametrize("answers", [[], [Answer("", "x")], [Answer("a", "x"), Answer("", "y")]])
def test_no_answers_or_an_empty_one_make_no_grammar(answers: list[Answer]) -> None:
    """An empty alternative lets the model answer nothing at all."""
    with pytest.raises(GrammarError, match="at least one answer, and no empty one"):
        to_gbnf(answers)


@pytest.mark.parametrize("char", ["\0", "\ud800"])
def test_characters_that_gbnf_cannot_hold_are_refused(char: str) -> None:
    """A zero byte ends the grammar early in C."""
    with pytest.raises(GrammarError, match=r"U\+[0-9A-F]{4} cannot stand in a grammar"):
        to_gbnf([Answer(f"a{char}b", "x")])


@given(st.lists(st.text("abc", max_size=5), min_size=1, max_size=5))
def test_the_common_prefix_is_common_and_longest(words: list[str]) -> None:
    """One letter too many cuts off an answer; one too few only costs time."""
    shared = common_prefix(words)
    assert all(word[: len(shared)] == shared for word in words)
    assert len({word[: len(shared) + 1] for word in words}) > 1 or shared in words


def spelled(vocabulary: Vocabulary, gbnf: str, text: str) -> bool:
    """Whether llama.cpp's sampler lets ``text`` through token by token, and lets the answer end there and only there."""
    logits = np.zeros(vocabulary.n_tokens, np.float32)
    ends = [vocabulary.tokenize(each, control_tokens=True)[0] for each in ("<|endoftext|>", "<|im_end|>", "</s>")]
    with GrammarSampler(vocabulary, gbnf) as sampler:
        for token in vocabulary.tokenize(text):
            allowed = sampler.allowed(logits)
            if not allowed[token] or allowed[ends].any():
                return False
            sampler.accept(token)
        return set(np.flatnonzero(sampler.allowed(logits))) == set(ends)


@pytest.fixture(scope="module")
def vocabulary(random_loaded: LoadedModel) -> Vocabulary:
    return random_loaded.vocabulary


@pytest.mark.parametrize("names", AWKWARD_NAMES, ids=lambda names: ascii(names[0]))
@pytest.mark.parametrize("prompt_format", [CARD, ORCHESTRATOR], ids=["card", "orchestrator"])
def test_llama_cpp_lets_every_answer_through(
    vocabulary: Vocabulary, names: tuple[str, ...], prompt_format: PromptFormat
) -> None:
    """Our reading of the grammar is worth nothing if llama.cpp reads it another way."""
    answers = prompt_format.answers(table(*names))
    gbnf = to_gbnf(answers)
    assert all(spelled(vocabulary, gbnf, answer.text) for answer in answers)


@settings(max_examples=30)
@given(TABLES, st.data())
def test_llama_cpp_lets_nothing_else_through(vocabulary: Vocabulary, routes: RouteTable, data: st.DataObject) -> None:
    """An answer that is nearly a route's is no route; a sampler that lets it out fails the decision."""
    answers = CARD.answers(routes)
    gbnf = to_gbnf(answers)
    answer = data.draw(st.sampled_from(answers)).text
    assert spelled(vocabulary, gbnf, answer)
    position = data.draw(st.integers(0, len(answer) - 1))
    char = data.draw(st.sampled_from(['"', "\\", "a", "é", " ", "}"]))
    for near in (answer[:position] + answer[position + 1 :], answer[:position] + char + answer[position:], answer + char):
        if near not in texts(answers):
            assert not spelled(vocabulary, gbnf, near)


def test_llama_cpp_tells_names_apart_that_begin_one_another(vocabulary: Vocabulary) -> None:
    """A grammar that stops at the shorter name makes the longer one unreachable."""
    gbnf = to_gbnf(CARD.answers(table("a", "ab", "abc")))
    for name, reachable in (("a", True), ("ab", True), ("abc", True), ("", False), ("abcd", False), ("b", False)):
        assert spelled(vocabulary, gbnf, f'{{"route": "{name}"}}') is reachable


def test_llama_cpp_takes_both_spellings_of_a_name(vocabulary: Vocabulary) -> None:
    """Held to one spelling, a model that was trained on the other is pushed to another route."""
    gbnf = to_gbnf(CARD.answers(table("caf\u00e9", "日本")))
    for spelling in ("caf\\u00e9", "caf\u00e9", "\\u65e5\\u672c", "日本"):
        assert spelled(vocabulary, gbnf, f'{{"route": "{spelling}"}}')
    for spelling in ("caf\\u00E9", "cafe", "\\u65e5本", "日"):
        assert not spelled(vocabulary, gbnf, f'{{"route": "{spelling}"}}')


@pytest.mark.parametrize("count", [1, MAX_ROUTES])
def test_llama_cpp_takes_the_smallest_and_the_largest_table(vocabulary: Vocabulary, count: int) -> None:
    """A large table must not exceed a limit of the grammar parser that a small one does not show."""
    answers = CARD.answers(table(*(f"route-{number}" for number in range(count))))
    gbnf = to_gbnf(answers)
    assert all(spelled(vocabulary, gbnf, answers[index].text) for index in (0, count // 2, count - 1, count))
    assert not spelled(vocabulary, gbnf, f'{{"route": "route-{count}"}}')


def test_a_grammar_that_llama_cpp_refuses_is_an_error(vocabulary: Vocabulary) -> None:
    """llama.cpp answers a refused grammar with NULL, and using that ends the process."""
    with pytest.raises(GrammarError, match=r"llama\.cpp refused the grammar"):
        GrammarSampler(vocabulary, "root ::= root")


def test_answers_can_be_spelled_as_a_prompt_spells_names() -> None:
    """Two spellings of a name that are equal after normalisation are one answer, not two alternatives of a grammar."""
    answers = CARD.answers(table("e\u0301"), nfc=True)
    assert texts(answers) == ['{"route": "\\u00e9"}', '{"route": "\u00e9"}', '{"route": "other"}']
    assert [answer.route for answer in answers] == ["e\u0301", "e\u0301", "other"]
