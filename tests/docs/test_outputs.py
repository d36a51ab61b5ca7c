"""Which differences between a shown output and a printed one count."""

from __future__ import annotations

import pytest

from tools.docs.outputs import matches

DECISION = """\
bug_fixing -> openai/gpt-4o
confidence 0.96, 36 prompt tokens: 26 reused; 10 evaluated, 25 ms; decided by mini
"""


def test_a_text_matches_itself() -> None:
    assert matches(DECISION, DECISION)
    assert matches("", "")


@pytest.mark.parametrize(
    ("shown", "given"),
    [
        ("10 evaluated, 25 ms", "10 evaluated, 1,204 ms"),
        ("a      36 ms  b", "a     136 ms  b"),
        ("done in 1.4 s", "done in 12 s"),
        ("mini  26.0 MB", "mini  1.20 MB"),
        ('{"total_ms": 29.002}', '{"total_ms": 8}'),
        ("archroute, version 0.1.0", "archroute, version 0.2.0.dev1"),
        ("listening on http://127.0.0.1:8642, model", "listening on http://127.0.0.1:50123, model"),
        ("confidence 0.96,", "confidence 0.94,"),
        ('"confidence":0.96', '"confidence":0.9580964871005767'),
        ("   99.81%  bug_fixing", "    98.20%  bug_fixing"),
        ("written   \n", "written\n"),
    ],
)
def test_what_changes_each_time_is_not_compared(shown: str, given: str) -> None:
    assert matches(shown, given)


@pytest.mark.parametrize(
    ("shown", "given"),
    [
        ("bug_fixing -> openai/gpt-4o", "bug_fixing -> openai/gpt-4o-mini"),
        ("26 reused; 10 evaluated", "26 reused; 11 evaluated"),
        ("confidence 0.96,", "confidence 0.91,"),
        ("   99.81%  bug_fixing", "   89.81%  bug_fixing"),
        ("one line\n", "one line\nand another\n"),
        ("one line\nand another\n", "one line\n"),
        ("25 ms", "25 s"),
        ("(a|b)", "a"),
    ],
)
def test_everything_else_is_compared(shown: str, given: str) -> None:
    assert not matches(shown, given)


def test_an_ellipsis_stands_for_any_text_of_a_line() -> None:
    assert matches('{"route":"a", ... "reason":null}', '{"route":"a","matched":true,"reason":null}')
    assert not matches('{"route":"a", ... "reason":null}', '{"route":"b","matched":true,"reason":null}')
    assert not matches("a ... b", "a\nb")


def test_an_ellipsis_in_a_line_of_its_own_stands_for_any_lines() -> None:
    for between in ("", "one\n", "one\ntwo\n"):
        assert matches("first\n...\nlast\n", f"first\n{between}last\n")
    assert not matches("first\n...\nlast\n", "first\nlast\nmore\n")
