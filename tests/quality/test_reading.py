"""Files of prompts, outcomes, battles and exports of the record: what is read, and the one line that each fault costs."""

from __future__ import annotations

import gzip
import io
import json
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archroute_edge.errors import QualityError
from archroute_edge.quality import _lines
from archroute_edge.quality._battles_reading import read_battles
from archroute_edge.quality._outcomes import Outcomes, Prompt
from archroute_edge.quality._prompts_reading import read_prompts
from archroute_edge.quality._reading import read_outcomes

pytestmark = pytest.mark.quick

PROMPTS = '{"id": "p1", "text": "one", "category": "law"}\n{"id": "p2", "text": "two"}\n{"id": "p3", "text": "three"}\n'
TABLE = "id,small,large\np1,0,1\np2,0.5,\np3,,1e-1\n"
BLANKS = " " * 1023 + "\n"
BATTLE = {"id": "p1", "model_a": "small", "model_b": "large", "winner": "model_a"}


def write(path: Path, content: str | bytes, *, packed: bool = False) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


def pair(folder: Path, prompts: str | bytes = PROMPTS, table: str | bytes = TABLE, *, name: str = "a") -> list[Path]:
    return [write(folder / f"prompts_{name}.jsonl", prompts), write(folder / f"outcomes_{name}.csv", table)]


def lines(folder: Path, *objects: Any, name: str = "lines.jsonl") -> Path:
    return write(folder / name, "".join(each if isinstance(each, str) else json.dumps(each) + "\n" for each in objects))


def one_line(call: Callable[[], object], *parts: str) -> None:
    """The call fails with one line that has all of these parts."""
    with pytest.raises(QualityError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    for part in parts:
        assert part in message


def rows_of(outcomes: Outcomes) -> list[list[float | None]]:
    return [[None if np.isnan(score) else float(score) for score in row] for row in outcomes.scores]


class TestOutcomes:
    def test_a_pair(self, tmp_path: Path) -> None:
        read = read_outcomes(pair(tmp_path))
        assert read.models == ("small", "large")
        assert read.prompts == (
            Prompt("p1", "one", "law", "a"),
            Prompt("p2", "two", None, "a"),
            Prompt("p3", "three", None, "a"),
        )
        assert rows_of(read) == [[0, 1], [0.5, None], [None, 0.1]]

    @pytest.mark.parametrize(
        "table",
        [
            "small,large\n0,1\n0.5,\n,1e-1\n",
            "small,id,large\n0,p1,1\n0.5,p2,\n,p3,.1\n",
            "\ufeffid,small,large\r\np1,0,1\r\n\r\np2,+0.50,\r\np3,,1E-1",
            '"id","small","large"\n"p1","-0","1.0"\np2,0.5,""\n"p3","",0.1\n',
        ],
        ids=["no-ids", "ids-in-the-middle", "windows", "quoted"],
    )
    def test_other_spellings_of_the_same_table(self, tmp_path: Path, table: str) -> None:
        read = read_outcomes(pair(tmp_path, table=table))
        assert (read.models, rows_of(read)) == (("small", "large"), [[0, 1], [0.5, None], [None, 0.1]])

    def test_one_model_without_ids_has_its_empty_cells_quoted(self, tmp_path: Path) -> None:
        assert rows_of(read_outcomes(pair(tmp_path, table='small\n1\n""\n0\n'))) == [[1], [None], [0]]

    def test_quoted_cells_may_hold_commas_and_line_breaks_and_lines_are_counted_right(self, tmp_path: Path) -> None:
        prompts = '{"id": "a, b", "text": "one"}\n{"id": "c\\nd", "text": "two"}\n{"id": "e", "text": "three"}\n'
        good = 'id,"large, tuned"\n"a, b",1\n"c\nd",0\ne,1\n'
        assert read_outcomes(pair(tmp_path, prompts, good)).models == ("large, tuned",)
        one_line(
            lambda: read_outcomes(pair(tmp_path, prompts, good.replace("e,1", "e,2"))),
            "outcomes_a.csv line 5: ",
            "2 is outside",
        )

    def test_prompts_in_windows_lines_with_a_byte_order_mark_and_other_keys(self, tmp_path: Path) -> None:
        prompts = "\ufeff" + PROMPTS.replace("\n", "\r\n\r\n").replace('"text": "two"', '"text": "two", "source": [1]')
        assert read_outcomes(pair(tmp_path, prompts)).prompts[1] == Prompt("p2", "two", None, "a")

    def test_messages_are_read_as_turns(self, tmp_path: Path) -> None:
        messages = [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": "data:,"}]},
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "why \ud83d?"},
        ]
        line = json.dumps({"id": 7, "messages": messages, "category": "half \ud83d"})
        (prompt,) = read_outcomes(pair(tmp_path, line, "id,small\n7,1\n")).prompts
        assert (prompt.id, prompt.category) == ("7", "half \ufffd")
        assert prompt.messages == (
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "why \ufffd?"},
        )

    def test_sets_are_joined_over_all_models_whatever_the_order_of_the_files(self, tmp_path: Path) -> None:
        first = pair(tmp_path, name="b")
        second = pair(tmp_path, '{"id": "p1", "text": "other"}\n', "id,large,huge\np1,0,1\n", name="a")
        read = read_outcomes([*first, *second])
        assert read.models == ("large", "huge", "small")
        assert [prompt.group for prompt in read.prompts] == ["a", "b", "b", "b"]
        assert rows_of(read) == [[0, 1, None], [1, None, 0], [None, None, 0.5], [0.1, None, None]]
        for files in ([second[1], first[0], second[0], first[1]], [str(tmp_path)], [tmp_path, *first]):
            again = read_outcomes(files)
            assert (again.models, again.prompts) == (read.models, read.prompts)
            np.testing.assert_array_equal(again.scores, read.scores)

    def test_a_folder_with_packed_files_and_others(self, tmp_path: Path) -> None:
        write(tmp_path / "prompts_a.b.jsonl.gz", PROMPTS, packed=True)
        write(tmp_path / "outcomes_a.b.csv.gz", TABLE, packed=True)
        write(tmp_path / "models_a.b.json", "not read")
        write(tmp_path / "battles.jsonl", "not read")
        (tmp_path / "prompts_below").mkdir()
        assert {prompt.group for prompt in read_outcomes([tmp_path]).prompts} == {"a.b"}

    def test_what_is_packed_is_seen_from_the_file_not_from_its_name(self, tmp_path: Path) -> None:
        files = [write(tmp_path / "prompts_a.jsonl", PROMPTS, packed=True), write(tmp_path / "outcomes_a.csv.gz", TABLE)]
        assert len(read_outcomes(files).prompts) == 3

    def test_the_table_of_models_may_be_given_and_is_not_read(self, tmp_path: Path) -> None:
        assert len(read_outcomes([*pair(tmp_path), write(tmp_path / "models_a.json.gz", b"\0")]).prompts) == 3

    def test_an_export_of_the_record_beside_sets(self, tmp_path: Path) -> None:
        request = json.dumps({"messages": [{"role": "user", "content": "four"}]})
        export = lines(tmp_path, {"id": "r", "request": request, "outcomes": [{"model": "large", "score": 0.25}]})
        read = read_outcomes([export, *pair(tmp_path)])
        assert rows_of(read)[3] == [None, 0.25]
        assert read.prompts[3].group == "lines"

    @pytest.mark.parametrize(
        ("table", "line", "parts"),
        [
            ("", 1, ("no column of a model",)),
            ("id\np1\np2\np3\n", 1, ("no column of a model",)),
            ("id;small;large\n", 1, ("separated by ';'",)),
            ("id\tsmall\n", 1, ("separated by '\\t'",)),
            ("id,small,small\n", 1, ("two columns are called 'small'",)),
            ("id,small,id\n", 1, ("two columns are called 'id'",)),
            (",small,large\n0,p1,1\n", 1, ("the name of column 1 is blank",)),
            ("id, small\n", 1, ("the name of column 2 is ' small', with blanks",)),
            ("id," + ",".join(f"m{number}" for number in range(1001)) + "\n", 1, ("1001 models; at most 1000",)),
            (TABLE.replace("p2,0.5,", "p2,0.5"), 3, ("2 cells; the header has 3",)),
            (TABLE.replace("p2,0.5,", "p2,0,1,1"), 3, ("4 cells; the header has 3",)),
            (TABLE.replace("p2,", "P2,"), 3, ("the id is 'P2', but line 2 of prompts_a.jsonl has 'p2'", "the prompts' order")),
            ("id,small,large\np2,0,1\np1,0,1\np3,0,1\n", 2, ("the id is 'p2', but line 1 of",)),
            (TABLE + "p4,0,1\n", 5, ("a row more than prompts_a.jsonl has prompts (3)",)),
            ("id,small,large\np1,0,1\n", 3, ("ends after 1 row; prompts_a.jsonl has 3 prompts",)),
            ("id,small,large\n", 2, ("ends after 0 rows",)),
            ("prompt_id,small\np1,0\n", 2, ("model 'prompt_id': 'p1' is no number", "a column of ids is called 'id'")),
            ('id,small,large\np1,0,1\np2,"0,1\np3,0,1\n', 3, ("not CSV",)),
            ('id,small,large\np1,0,1\np2,"0"5,1\n', 3, ("not CSV",)),
            ("id,small,large\rp1,0,1\rp2,0,1\rp3,0,1\r", 1, ("not CSV",)),
            (TABLE.encode().replace(b"p2", b"p\xe9"), 3, ("not UTF-8 (byte 1 of the line)", "save the file as UTF-8")),
            (TABLE.encode("utf-16"), 1, ("UTF-16", "save the file as UTF-8")),
            (TABLE.encode("utf-16-be"), 1, ("UTF-16",)),
            (TABLE.encode("utf-32"), 1, ("UTF-16",)),
            (b"PK\x03\x04\n", 1, ("a zip archive", "unpack it")),
            (b"version https://git-lfs.github.com/spec/v1\noid x\n", 1, ("Git LFS pointer",)),
            (b"\x1f\x8b\x08nothing", 1, ("the gzip file is",)),
        ],
    )  # fmt: skip
    def test_a_wrong_table(self, tmp_path: Path, table: str | bytes, line: int, parts: tuple[str, ...]) -> None:
        files = pair(tmp_path, table=table)
        one_line(lambda: read_outcomes(files), f"{files[1]} line {line}: ", *parts)

    @pytest.mark.parametrize(
        ("cell", "part"),
        [
            *((cell, "is written out; leave the cell empty") for cell in ("nan", "-Inf", " NA ", "null", "-")),
            *((cell, "is outside 0 to 1") for cell in ("1.01", "-0.1", "85", "1e999")),
            *((cell, "is no number") for cell in ("true", "50%", " 1", "1_0", "٠", "0x1")),
        ],
    )
    def test_a_wrong_score(self, tmp_path: Path, cell: str, part: str) -> None:
        files = pair(tmp_path, table=TABLE.replace("0.5", cell))
        one_line(lambda: read_outcomes(files), f"{files[1]} line 3: model 'small': ", part)

    @pytest.mark.parametrize(
        ("prompts", "line", "parts"),
        [
            ("", 1, ("there are no prompts",)),
            ("\n \n", 1, ("there are no prompts",)),
            (PROMPTS.replace("p3", "p1"), 3, ("the id 'p1' is that of line 1, too",)),
            ('{"id": 1, "text": "a"}\n{"id": "1", "text": "b"}\n', 2, ("the id '1' is that of line 1",)),
            ('{"text": "a"}\n', 1, ("no 'id'",)),
            ('{"id": "", "text": "a"}\n', 1, ("'id' is blank",)),
            ('{"id": 1.5, "text": "a"}\n', 1, ("no 'id'; expected a text or a whole number",)),
            ('{"id": true, "text": "a"}\n', 1, ("no 'id'; expected a text or a whole number",)),
            (PROMPTS + '{"id": "p4"}\n', 4, ("no prompt; expected either 'text' or 'messages'",)),
            (PROMPTS + '{"id": "p4", "prompt": "a"}\n', 4, ("no prompt; expected either 'text' or 'messages'",)),
            ('{"id": "p", "text": "a", "messages": "a"}\n', 1, ("both 'text' and 'messages'",)),
            ('{"id": "p", "text": ["a"]}\n', 1, ("'text' is no text",)),
            ('{"id": "p", "text": " \\n"}\n', 1, ("'text' is blank; a prompt needs user text",)),
            ('{"id": "p", "messages": []}\n', 1, ("there are no messages",)),
            ('{"id": "p", "messages": 5}\n', 1, ("must be a text or a list",)),
            ('{"id": "p", "messages": [{"role": "assistant", "content": "a"}]}\n', 1, ("no user message with text",)),
            ('{"id": "p", "messages": [{"role": "oracle", "content": "a"}]}\n', 1, ("message 0 has the role 'oracle'",)),
            ('{"id": "p", "text": "a", "category": 5}\n', 1, ("no 'category'; expected a text",)),
            ('{"id": "p", "text": "a", "category": "law "}\n', 1, ("'category' is 'law ', with blanks",)),
            ('\n\n{"id": "p", "text": \n', 3, ("not JSON: ", '; expected {"id"')),
            ("[]\n", 1, ("not a JSON object",)),
            ("[" * 100_000, 1, ("nested too deep",)),
            ('{"id": "p", "text": "a", "weight": NaN}\n', 1, ("NaN",)),
            ('{"id": "p", "text": "a", "weight": 1e999}\n', 1, ("1e999 is too large a number",)),
            (PROMPTS + '{"id": "p4", "text": "a", "text": "b"}\n', 4, ("the key 'text' appears twice in one object",)),
            ('{"id": ' + "9" * 5000 + "}\n", 1, ("a number too long",)),
            (b'{"id": "p", "text": "a"}\n{"id": "q", "text": "\xe9"}\n', 2, ("not UTF-8 (byte 21)", "in UTF-8")),
            (PROMPTS.encode("utf-16"), 1, ("UTF-16",)),
            (PROMPTS.encode("utf-16-le"), 1, ("UTF-16",)),
            (b"<!doctype html>\n", 1, ("a web page",)),
        ],
    )  # fmt: skip
    def test_wrong_prompts(self, tmp_path: Path, prompts: str | bytes, line: int, parts: tuple[str, ...]) -> None:
        files = pair(tmp_path, prompts)
        one_line(lambda: read_outcomes(files), f"{files[0]} line {line}: ", *parts)

    def test_files_that_do_not_fit_together(self, tmp_path: Path) -> None:
        prompts, table = pair(tmp_path)
        other = pair(tmp_path, name="b")
        again = write(tmp_path / "prompts_a.jsonl.gz", PROMPTS, packed=True)
        (empty := tmp_path / "empty").mkdir()
        one_line(lambda: read_outcomes([]), "there are no outcomes to read")
        one_line(lambda: read_outcomes([prompts]), f"{prompts}: outcomes_a.csv (or .gz) is missing")
        one_line(lambda: read_outcomes([table, *other]), f"{table}: prompts_a.jsonl (or .gz) is missing")
        one_line(lambda: read_outcomes([prompts, table, again]), f"{prompts} and {again} both belong to the set 'a'")
        one_line(lambda: read_outcomes([tmp_path / "notes.txt"]), "notes.txt: not the name of a file of outcomes")
        one_line(lambda: read_outcomes([empty]), f"{empty}: holds no prompts_SET.jsonl")
        one_line(lambda: read_outcomes([empty / "prompts_c.jsonl", empty / "outcomes_c.csv"]), "cannot be read (No such file")
        one_line(
            lambda: read_outcomes([lines(tmp_path, BATTLE)]), "lines.jsonl line 1: a battle, which is no outcome; name its file"
        )

    def test_bounds(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A small packed file that holds far more than memory is refused before it is held."""
        bomb = write(tmp_path / "prompts_a.jsonl.gz", PROMPTS + " " * 3_000_000, packed=True)
        files = [bomb, write(tmp_path / "outcomes_a.csv", TABLE)]
        monkeypatch.setattr(_lines, "LONGEST_LINE", 2 << 20)
        one_line(lambda: read_outcomes(files), f"{bomb} line 4: longer than 2 MiB")
        write(bomb, PROMPTS + BLANKS * 3000, packed=True)
        monkeypatch.setattr("archroute_edge.quality._prompts_reading.LARGEST_FILE", 1 << 20)
        one_line(lambda: read_outcomes(files), f"{bomb} line ", "beyond the 1 MiB", "split it")

    def test_a_packed_file_that_is_cut_off_or_damaged_anywhere(self, tmp_path: Path) -> None:
        """At every byte: an error with file and line, or the same outcomes if only bytes that say nothing are lost."""
        draw = random.Random(5)
        table = "id,small,large\n" + "".join(f"p{number},{draw.random():.4f},{draw.random():.4f}\n" for number in range(100))
        prompts = "".join(json.dumps({"id": f"p{number}", "text": str(draw.random())}) + "\n" for number in range(100))
        files = pair(tmp_path, prompts, table)
        whole = read_outcomes(files)
        packed = gzip.compress(table.encode())
        for length in range(2, len(packed), 31):
            write(files[1], packed[:length])
            one_line(lambda: read_outcomes(files), f"{files[1]} line ", "the gzip file is cut off here")
        for place in range(2, len(packed), 13):
            write(files[1], packed[:place] + bytes([packed[place] ^ 1 << place % 8]) + packed[place + 1 :])
            try:
                np.testing.assert_array_equal(read_outcomes(files).scores, whole.scores)
            except QualityError as error:
                assert str(error).startswith(f"{files[1]} line ")

    def test_any_damage_is_one_line(self, tmp_path: Path) -> None:
        draw = random.Random(7)
        files = pair(tmp_path)
        for half, content in ((0, PROMPTS.encode()), (1, TABLE.encode())):
            for _ in range(300):
                data = bytearray(content)
                for _ in range(draw.randint(1, 3)):
                    data[draw.randrange(len(data))] = draw.choice((draw.randrange(256), *b'",\n\r\0{}[]'))
                write(files[half], bytes(data[: draw.choice((len(data), draw.randrange(len(data))))]))
                try:
                    scores = read_outcomes(files).scores
                except QualityError as error:
                    assert " line " in str(error) and "\n" not in str(error)
                else:
                    assert np.all(np.isnan(scores) | ((scores >= 0) & (scores <= 1)))
            write(files[half], content)


class TestPrompts:
    def test_lines_with_and_without_ids(self, tmp_path: Path) -> None:
        path = lines(tmp_path, {"id": "a", "text": "one"}, "\n", {"messages": "two", "category": "law"}, name="prompts_x.jsonl")
        assert list(read_prompts(path)) == [Prompt("a", "one", None, "x"), Prompt("3", "two", "law", "x")]

    def test_prompts_come_as_their_lines_do(self, tmp_path: Path) -> None:
        """A pipe is answered line by line, and an error costs no line before it."""
        prompts = read_prompts(lines(tmp_path, {"text": "one"}, "nonsense\n"))
        assert next(prompts).messages == "one"
        one_line(lambda: next(prompts), "lines.jsonl line 2: not JSON")

    def test_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "one"}\n{"text": " "}\n')))
        prompts = read_prompts("-")
        assert next(prompts) == Prompt("1", "one", None, "")
        one_line(lambda: next(prompts), "standard input line 2: 'text' is blank")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(b'{"text": "one"}\n'))))
        one_line(lambda: next(read_prompts("-")), "standard input line 1: still packed with gzip; unpack it first")

    def test_only_a_packed_file_has_a_bound_when_it_is_not_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_lines, "LARGEST_FILE", 1 << 20)
        content = '{"text": "one"}\n' + BLANKS * 2048 + '{"text": "two"}\n'
        assert len(list(read_prompts(write(tmp_path / "plain.jsonl", content)))) == 2
        packed = write(tmp_path / "packed.jsonl.gz", content, packed=True)
        one_line(lambda: list(read_prompts(packed)), "beyond the 1 MiB", "unpack it")


class TestBattles:
    def test_prompts_by_id_and_in_the_line(self, tmp_path: Path) -> None:
        turns = [{"role": "user", "content": "b"}]
        fields = {"model_a": "x", "model_b": "a"}
        path = lines(
            tmp_path,
            {"id": "p2", "winner": "model_a", **fields},
            {"text": "a", "winner": "model_b", **fields},
            {"id": "q", "messages": turns, "winner": "tie", **fields},
            {"id": "p2", "winner": "tie (bothbad)", "model_a": "a", "model_b": "m"},
            {"prompt": "a", "winner": "model_b", **fields},
            name="arena.jsonl",
        )
        prompts = [Prompt("p1", "one"), Prompt("p2", "two", "law", "s")]
        read = read_battles(path, prompts)
        assert read.models == ("a", "m", "x")
        assert read.prompts == (prompts[1], Prompt("2", "a", None, "arena"), Prompt("q", tuple(turns), None, "arena"))
        assert read.prompt.tolist() == [0, 1, 2, 0, 1]
        assert read.first.tolist() == [2, 2, 2, 0, 2]
        assert read.second.tolist() == [0, 0, 0, 1, 0]
        assert read.won.tolist() == [1, 0, 0.5, 0.5, 0]

    def test_an_id_of_several_sets_needs_the_set(self, tmp_path: Path) -> None:
        prompts = [Prompt("p1", "one", None, "a"), Prompt("p1", "uno", None, "b")]
        assert read_battles(lines(tmp_path, {**BATTLE, "set": "b"}), prompts).prompts == (prompts[1],)
        for line in (BATTLE, {**BATTLE, "set": "c"}):
            path = lines(tmp_path, line)
            one_line(partial(read_battles, path, prompts), "line 1: several prompts have the id 'p1' (sets: a, b)")

    @pytest.mark.parametrize(
        ("changed", "part"),
        [
            ({"model_b": "small"}, "'small' against itself"),
            ({"model_a": ""}, "'model_a' is blank"),
            ({"model_b": None}, "no 'model_b'"),
            ({"winner": "small"}, "'winner' is 'small'; expected model_a, model_b, tie or tie (bothbad)"),
            ({"winner": "Tie"}, "'winner' is 'Tie'"),
            ({"winner": 1}, "no 'winner'"),
            ({"winner": ["tie"]}, "no 'winner'"),
            ({"id": "p9"}, "no prompt has the id 'p9'"),
            ({"id": None}, "no prompt; expected 'id', 'prompt', 'text' or 'messages'"),
            ({"id": None, "prompt": " "}, "'prompt' is blank"),
            ({"id": None, "text": ["a"]}, "'text' is no text"),
            ({"prompt": "a", "text": "a"}, "both 'prompt' and 'text'"),
            ({"id": "own", "text": "b"}, "the id 'own' is that of another prompt on a line before"),
        ],
    )
    def test_a_wrong_line(self, tmp_path: Path, changed: dict[str, object], part: str) -> None:
        path = lines(tmp_path, BATTLE, {**BATTLE, "id": "own", "text": "a"}, {**BATTLE, **changed})
        one_line(lambda: read_battles(path, [Prompt("p1", "one")]), f"{path} line 3: ", part)

    def test_no_battles(self, tmp_path: Path) -> None:
        one_line(lambda: read_battles(lines(tmp_path)), "lines.jsonl line 1: there are no battles")


class TestRecord:
    def request(self, text: str) -> str:
        return json.dumps(
            {"model": "auto", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": text}]}
        )

    def export(self, folder: Path) -> Path:
        """As ``archroute log export --outcomes`` writes it, texts recorded but once."""
        failed = {"model": "large", "shadow": False, "outcome": "failed", "status": 429, "error": "rate_limited"}

        def answer(model: str, score: float | None) -> dict[str, Any]:
            return {"model": model, "shadow": False, "outcome": "completed", "status": 200, "error": None, "score": score}

        return lines(
            folder,
            {"id": "r1", "route": "code", "request": self.request("one"), "outcomes": [failed, answer("small", 0.8)]},
            {
                "id": "r2",
                "route": None,
                "request": self.request("two"),
                "outcomes": [answer("small", None), answer("large", 1)],
            },
            {"id": "r3", "route": "code", "outcomes": [answer("small", 1)]},
            {"id": "r4", "route": "code", "request": self.request("four"), "outcomes": [answer("large", None)]},
            {"id": "r5", "route": "code", "request": '{"input": "five"}', "outcomes": [answer("large", 0), answer("large", 1)]},
            {"id": "r6", "route": "code", "request": "cut off", "outcomes": [answer("large", 0)]},
            name="export.jsonl",
        )

    def test_requests_with_text_and_grade(self, tmp_path: Path) -> None:
        read = read_outcomes([self.export(tmp_path)])
        assert [(prompt.id, prompt.category, prompt.group) for prompt in read.prompts] == [
            ("r1", "code", "export"), ("r2", None, "export"), ("r5", "code", "export"),
        ]  # fmt: skip
        assert read.prompts[0].messages == ({"role": "user", "content": "one"},)
        assert (read.models, rows_of(read)) == (("small", "large"), [[0.8, None], [None, 1], [None, 0.5]])

    def test_grades_of_a_file(self, tmp_path: Path) -> None:
        grades = write(tmp_path / "grades.csv", "model,id,score\nsmall,r1,0.1\nlarge,r4,1\nhuge,r4,0.5\n")
        read = read_outcomes([self.export(tmp_path)], [grades])
        assert [prompt.id for prompt in read.prompts] == ["r1", "r2", "r4", "r5"]
        assert read.models == ("small", "large", "huge")
        assert rows_of(read) == [[0.1, None, None], [None, 1, None], [None, 1, 0.5], [None, 0.5, None]]

    @pytest.mark.parametrize(
        ("grades", "line", "part"),
        [
            ("", 1, "the columns are ''; expected id,model,score"),
            ("id,model,grade\n", 1, "the columns are 'id,model,grade'"),
            ("id,model,score\nr1,small\n", 2, "2 cells"),
            ("id,model,score\nr1,small,1\nr9,small,1\n", 3, "no prompt has the id 'r9'"),
            ("id,model,score\nr1,small,1\nr1,small,0\n", 3, "line 2 grades this prompt and model, too"),
            ("id,model,score\nr1,,1\n", 2, "the model's name is blank"),
            ("id,model,score\nr1,small,\n", 2, "'' is no number"),
            ("id,model,score\nr1,small,5\n", 2, "5 is outside 0 to 1"),
        ],
    )
    def test_wrong_grades(self, tmp_path: Path, grades: str, line: int, part: str) -> None:
        path = write(tmp_path / "grades.csv", grades)
        one_line(lambda: read_outcomes([self.export(tmp_path)], [path]), f"{path} line {line}: ", part)

    @pytest.mark.parametrize(
        ("line", "part"),
        [
            ({"id": "r1", "outcomes": []}, "the request 'r1' stands on a line before, too"),
            ({"outcomes": []}, "no 'id'"),
            ({"id": "r9"}, "no 'outcomes'"),
            ({"id": "r9", "outcomes": ["small"]}, "outcome 1 is no object"),
            ({"id": "r9", "outcomes": [{"score": 1}]}, "no 'model'; expected the model of outcome 1"),
            ({"id": "r9", "outcomes": [{"model": "small", "score": 4}]}, "'score' of outcome 1 is 4"),
            ({"id": "r9", "outcomes": [], "request": {}}, "'request' is no text"),
        ],
    )
    def test_a_wrong_line(self, tmp_path: Path, line: dict[str, object], part: str) -> None:
        path = lines(tmp_path, {"id": "r1", "outcomes": []}, line)
        one_line(lambda: read_outcomes([path]), f"{path} line 2: ", part)

    @pytest.mark.parametrize(
        ("with_text", "score", "part"),
        [(False, 1, "--record=content"), (True, None, "archroute log grade"), (None, None, "there are no graded prompts")],
    )
    def test_nothing_to_learn_from(self, tmp_path: Path, with_text: bool | None, score: float | None, part: str) -> None:
        line = {"id": "r", "outcomes": [{"model": "small", "score": score}]} | (
            {"request": self.request("a")} if with_text else {}
        )
        path = lines(tmp_path, *([] if with_text is None else [line]))
        one_line(lambda: read_outcomes([path]), f"{path} line 1: ", part)

    def test_texts_and_grades_of_different_requests(self, tmp_path: Path) -> None:
        graded: dict[str, Any] = {"id": "r1", "outcomes": [{"model": "small", "score": 1}]}
        path = lines(tmp_path, graded, {"id": "r2", "request": self.request("a"), "outcomes": []})
        one_line(lambda: read_outcomes([path]), "no request has both its text and a grade")
