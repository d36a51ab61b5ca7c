"""Many languages: the files that are complete, what is kept out, and translations that have one meaning."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from archroute_edge.deciders import route_text
from archroute_edge.routes import Route
from training.mini.catalogue import Catalogue
from training.mini.languages import FOLDER, NARROW_FOLDER, RARER_FOLDER, LanguageSampler, held_requests
from training.yaml_files import read_yaml

FILES = sorted(FOLDER.glob("*.yaml"))
NARROW_FILES = sorted(NARROW_FOLDER.glob("*.yaml"))
RARER_FILES = sorted(RARER_FOLDER.glob("*.yaml"))
_MEANING = re.compile(r"((?:sentence|xsid) \d+) in ([\w-]+)")


@pytest.fixture(scope="module")
def sampler(steered: Catalogue) -> LanguageSampler:
    return LanguageSampler(steered.languages, steered.held_out)


@pytest.fixture(scope="module")
def drawn(sampler: LanguageSampler) -> list[str]:
    """All texts of many draws, in lower case, since some requests are."""
    rng = random.Random(7)
    texts: list[str] = []
    for _ in range(60):
        table = sampler.table(rng, 12)
        requests, routes, _ = sampler.pairs(rng, 64)
        ones, others = sampler.parallel(rng, 12)
        texts += [*table.routes, *table.conversations, *requests, *routes, *ones, *others]
    return [text.lower() for text in texts]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_language_is_complete(path: Path, steered: Catalogue) -> None:
    """A kind that is missing, or a request that stands under two, is noticed by no one in a language that few here read."""
    content = read_yaml(path)
    assert len(content["kinds"]) == 60 and content["kinds"].keys() <= steered.kinds.keys()
    requests: Counter[str] = Counter()
    for words in content["kinds"].values():
        assert len(words["ask"]) == 3 and words["name"].strip() and words["about"].strip()
        requests.update(words["ask"])
    assert set(requests.values()) == {1}
    assert all(text.strip() for text in requests)
    for phrases, least in (("closings", 8), ("chatter", 4), ("replies", 5)):
        assert len(set(content[phrases])) >= least
        assert requests.keys().isdisjoint(content[phrases])


@pytest.mark.parametrize("path", [*NARROW_FILES, *RARER_FILES], ids=lambda path: f"{path.parent.name} {path.stem}")
def test_kinds_of_a_domain_are_complete_in_every_language(path: Path, steered: Catalogue) -> None:
    """A language that lacks one of them would never ask for it."""
    content = read_yaml(path)
    languages = {code for by_language in content.values() for code in by_language}
    assert len(content) >= 6 and len(languages) >= (20 if path in NARROW_FILES else 14)
    for identity, by_language in content.items():
        assert steered.kinds[identity].domain == path.stem and set(by_language) == languages
        assert all(len({*asked}) == 2 and all(text.strip() for text in asked) for asked in by_language.values())


def test_no_request_is_in_two_languages() -> None:
    """A text copied from another language's file would teach that the one is the other."""
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for path in FILES:
        for words in read_yaml(path)["kinds"].values():
            for text in words["ask"]:
                seen[text].add(path.stem)
    for path in [*NARROW_FILES, *RARER_FILES]:
        for by_language in read_yaml(path).values():
            for code, asked in by_language.items():
                for text in asked:
                    seen[text].add(code)
    assert {text: codes for text, codes in seen.items() if len(codes) > 1} == {}


def test_requests_to_judge_languages_by_are_in_no_text_of_the_training(steered: Catalogue) -> None:
    judged = read_yaml(FOLDER.parent / "language_messages.yaml")["requests"]
    requests = [language.requests for language in steered.languages.by_code.values()]
    trained = {text for by_kind in requests for texts in by_kind.values() for text in texts}
    assert len(judged) >= 70
    assert trained.isdisjoint(text for texts in judged.values() for text in texts)


def test_nothing_of_a_held_out_language_is_drawn(steered: Catalogue, drawn: list[str]) -> None:
    """Otherwise the figures for languages that only transfer would say nothing about those."""
    languages = steered.languages
    held = [languages.by_code[code] for code in languages.held_out & languages.by_code.keys()]
    assert len([language for language in held if language.closings]) >= 2
    everything = "\n".join(drawn)
    for language in held:
        for text in [*language.closings, *(text for texts in language.requests.values() for text in texts)]:
            # Short thanks and loanwords can be the same in two languages.
            if len(text) > 12:
                assert text.lower() not in everything
    assert {match[2] for text in drawn for match in _MEANING.finditer(text)} >= {"de", "en", "ar"}
    assert not any(match[2] in languages.held_out for text in drawn for match in _MEANING.finditer(text))


def test_requests_in_the_rarer_languages_are_drawn(drawn: list[str]) -> None:
    files = [read_yaml(path) for path in RARER_FILES]
    asked = {text.lower() for file in files for by_code in file.values() for texts in by_code.values() for text in texts}
    assert len(asked & set(drawn)) > 20


def test_a_row_of_xsid_without_a_text_is_left_out(steered: Catalogue) -> None:
    """The published file has one, and no conversation can be made of it."""
    languages = steered.languages
    requests = [text for one in languages.by_code.values() for texts in one.requests.values() for text in texts]
    translations = [text for texts in languages.translations for text in texts.values()]
    assert all(text.strip() for text in [*requests, *translations])


def test_requests_that_judge_are_not_drawn_in_any_language(data: Path, drawn: list[str]) -> None:
    held = {text.lower() for _, _, text in held_requests(data)}
    assert len({text.split(" in ")[0] for text in held}) > 3
    assert held.isdisjoint(match[0] for text in drawn for match in _MEANING.finditer(text))


def test_kinds_that_are_held_out_are_drawn_in_no_language(steered: Catalogue, sampler: LanguageSampler) -> None:
    rng = random.Random(3)
    drawn = {kind for _ in range(60) for kind in sampler.pairs(rng, 64)[2]}
    assert drawn and drawn.isdisjoint(steered.held_out)
    written = set(read_yaml(FILES[0])["kinds"]).union(*(read_yaml(path) for path in [*NARROW_FILES, *RARER_FILES]))
    assert written & steered.held_out and written - steered.held_out == drawn


def test_a_table_of_a_domain_in_many_languages(sampler: LanguageSampler) -> None:
    """Its kinds exclude one another, so a request for one that is not in the table is answered by `other`."""
    rng = random.Random(4)
    drawn = [sampler.table(rng, 12) for _ in range(60)]
    asked = {text for names in sampler.domains.values() for name in names for text in _requests(sampler, name)}
    others = [text for table in drawn for text, label in zip(table.conversations, table.labels, strict=True) if label < 0]
    assert sum(text in asked for text in others) > 10


def _requests(sampler: LanguageSampler, identity: str) -> list[str]:
    return [text for code in sampler.known[identity] for text in sampler.languages[code].requests[identity]]


def test_translations_have_one_meaning(steered: Catalogue, sampler: LanguageSampler) -> None:
    """Both sides are one sentence in two languages, or one route: a wrong pair would pull two meanings together."""
    known = {
        route_text(Route(*words)): identity
        for language in sampler.languages.values()
        for identity, words in language.routes.items()
    }
    rng = random.Random(11)
    sentences = routes = 0
    for _ in range(40):
        for one, other in zip(*sampler.parallel(rng, 12), strict=True):
            found = _MEANING.fullmatch(one), _MEANING.fullmatch(other)
            if found[0] is not None and found[1] is not None:
                assert found[0][1] == found[1][1]
                sentences += 1
            else:
                kind = steered.kinds[known[one]]
                assert other in {route_text(Route(name, about)) for name in kind.names for about in kind.descriptions}
                routes += 1
    assert sentences > 100 and routes > 50


def test_sentences_that_judge_or_are_long_are_no_translations(steered: Catalogue) -> None:
    languages = steered.languages
    held = {texts["eng"] for texts in languages.held_translations if "eng" in texts}
    trained = {texts["eng"] for texts in languages.translations if "eng" in texts}
    assert held and trained and held.isdisjoint(trained)
    assert max(len(text) for text in held | trained) <= 120


def test_a_conversation_that_ends_is_of_no_route(sampler: LanguageSampler) -> None:
    closings = {text for language in sampler.languages.values() for text in language.closings}
    rng = random.Random(5)
    ended = 0
    for _ in range(60):
        table = sampler.table(rng, 12)
        assert len(table.conversations) == len(table.labels) == 12
        assert all(-1 <= label < len(table.routes) for label in table.labels)
        for text, label in zip(table.conversations, table.labels, strict=True):
            if text.split("\n")[0] in closings:
                assert label == -1
                ended += 1
    assert ended > 20
