"""CLINC150 and BANKING77 as cases."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from archroute_edge.evaluation import Case, read_cases
from training.cases.cli import commands
from training.cases.data_sets import BANKING77, CLINC150
from training.cases.drawing import Drawing, descriptions, draw_cases
from training.cases.errors import DataSetError
from training.cases.published_intents import read_banking77, read_clinc150
from training.tests.cases.conftest import DOMAINS


def load(name: str, folder: Path, output: Path, *options: str) -> list[Case]:
    done = CliRunner().invoke(commands, ["load", name, "--from", str(folder), "-o", str(output), *options])
    assert done.exit_code == 0, done.output
    return read_cases(output)


def test_clinc150_becomes_cases_of_one_domain_each(clinc150: Path, tmp_path: Path) -> None:
    cases = load(
        "clinc150", clinc150, tmp_path / "c.jsonl", "--count", "60", "--tables", "6", "--routes", "2", "--split", "val"
    )
    assert len(cases) == 60
    for case in cases:
        assert set(case.table.names) <= set(DOMAINS[case.tags[1]])
        text = str(case.messages[0]["content"])  # type: ignore[index]
        assert text.startswith("val message")
        assert text.endswith("nothing" if case.route == "other" else case.route)
        assert ("other" in case.tags) == (case.route == "other")
    assert {len(case.table) for case in cases} == {2}
    assert 1 <= sum(case.route == "other" for case in cases) <= 20


def test_routes_may_come_from_all_domains(clinc150: Path, tmp_path: Path) -> None:
    cases = load(
        "clinc150", clinc150, tmp_path / "c.jsonl", "--routes", "6", "--across-domains", "--count", "20", "--other", "0"
    )
    assert all(set(case.table.names) == {each for intents in DOMAINS.values() for each in intents} for case in cases)
    assert not any(case.route == "other" for case in cases)


def test_the_seed_decides(clinc150: Path, tmp_path: Path) -> None:
    options = ("--count", "30", "--tables", "3", "--routes", "2", "--seed")
    files = [tmp_path / f"{number}.jsonl" for number in range(3)]
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        load("clinc150", clinc150, file, *options, seed)
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


def test_no_message_comes_twice_with_one_table(banking77: Path, tmp_path: Path) -> None:
    cases = load("banking77", banking77, tmp_path / "b.jsonl", "--count", "60", "--tables", "4", "--routes", "3")
    asked = Counter((id(case.table), str(case.messages)) for case in cases)
    assert max(asked.values()) == 1


def test_banking77_is_read_with_quotes_and_line_breaks(banking77: Path, tmp_path: Path) -> None:
    cases = load("banking77", banking77, tmp_path / "b.jsonl", "--count", "20", "--tables", "2", "--routes", "4")
    for case in cases:
        text = str(case.messages[0]["content"])  # type: ignore[index]
        assert text.startswith('it says "test",\nnumber ')
        assert text.endswith(f": {case.route}")
    assert "Refund not showing up on the account yet" in {route.description for case in cases for route in case.table}


def test_an_intent_that_we_do_not_know_is_described_by_its_name(clinc150: Path) -> None:
    path = clinc150 / "data" / "data_full.json"
    path.write_text(path.read_text(encoding="utf-8").replace("vaccines", "new_intentName"), encoding="utf-8")
    (clinc150 / "data" / "domains.json").write_text('{"travel": ["new_intentName", "book_flight"]}', encoding="utf-8")
    lines = list(draw_cases("clinc150", read_clinc150(clinc150, "test"), Drawing(count=4, tables=1, routes=2)))
    assert {"name": "new_intentName", "description": "new intent name"} in lines[0]["routes"]


@pytest.mark.parametrize(("data_set", "n_intents"), [(CLINC150, 150), (BANKING77, 77)])
def test_every_published_intent_has_a_description_of_its_own(data_set: Any, n_intents: int) -> None:
    found = descriptions(data_set.name)
    assert len(found) == n_intents
    assert len(set(found.values())) == n_intents


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--routes", "4"), "no domain has 4 intents, the largest has 3"),
        (("--routes", "7", "--across-domains"), "7 routes are more than the 6 intents"),
        (("--routes", "1", "--count", "50", "--tables", "1"), "messages of"),
        (
            ("--routes", "1", "--other", "1", "--count", "7", "--tables", "1"),
            "would need 7 messages of other, and the split has 6",
        ),
    ],
)
def test_more_than_there_is(clinc150: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    output = tmp_path / "c.jsonl"
    done = CliRunner().invoke(commands, ["load", "clinc150", "--from", str(clinc150), "-o", str(output), *options])
    assert isinstance(done.exception, DataSetError)
    assert message in str(done.exception)
    assert not output.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_full.json", '{"test": [', "data_full.json: not JSON"),
        ("data_full.json", '{"train": []}', "data_full.json: expected a list under 'test'"),
        (
            "data_full.json",
            '{"test": [["a", "yes"], ["b"]], "oos_test": []}',
            "data_full.json: test[1]: expected [text, intent]",
        ),
        ("data_full.json", '{"test": [], "oos_test": [["a", 1]]}', "data_full.json: oos_test[0]: expected [text, intent]"),
        ("domains.json", '{"travel": "vaccines"}', "domains.json: expected an object of lists"),
        ("domains.json", None, "has no data/domains.json"),
    ],
)
def test_clinc150_of_another_layout(clinc150: Path, name: str, content: str | None, message: str) -> None:
    path = clinc150 / "data" / name
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(DataSetError) as caught:
        read_clinc150(clinc150, "test")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "test.csv:1: expected the columns"),
        (b"text,intent\na,b\n", "test.csv:1: expected the columns"),
        (b"text,category\na,b\nc\n", "test.csv:3: expected a text and a category, not 1 cells"),
        (b"text,category\na,\n", "test.csv:2: expected a text and a category"),
        (b'text,category\n"a,b\n', "not a CSV file"),
        (b"text,category\n\xff,b\n", "not a CSV file in UTF-8"),
    ],
)
def test_banking77_of_another_layout(banking77: Path, content: bytes, message: str) -> None:
    (banking77 / "banking_data" / "test.csv").write_bytes(content)
    with pytest.raises(DataSetError) as caught:
        read_banking77(banking77, "test")
    assert message in str(caught.value)


def test_the_inner_folder_will_do(banking77: Path) -> None:
    """Those who downloaded the two files have no folder around them."""
    assert len(read_banking77(banking77 / "banking_data", "test").messages) == 4


def test_the_licence_is_told(clinc150: Path, tmp_path: Path) -> None:
    arguments = ["load", "clinc150", "--from", str(clinc150), "-o", str(tmp_path / "c.jsonl"), "--routes", "2", "--count", "9"]
    done = CliRunner().invoke(commands, arguments)
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "Larson" in done.stderr
    assert "CC BY 3.0" in done.stderr
