"""The cases that come with the package judge the encoder, so none of their messages is among the texts of its training."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.yaml_files import read_yaml

MINI = Path(__file__).parents[2] / "mini"
CASES = Path(__file__).parents[3] / "archroute_edge" / "data" / "cases.jsonl"
# Shorter ones, such as "good morning", are said everywhere.
FEWEST_WORDS = 4


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_in(each)


def test_no_message_of_the_shipped_cases_is_trained_on() -> None:
    lines = CASES.read_text(encoding="utf-8").splitlines()
    asked = {words(message["content"]) for line in lines for message in json.loads(line)["messages"]}
    asked = {text for text in asked if len(text.split()) >= FEWEST_WORDS}
    judging = ("catch_all_tables.yaml", "language_messages.yaml", "harness_routes.yaml")
    files = [path for path in sorted(MINI.rglob("*.yaml")) if path.name not in judging]
    written = {words(text): path.name for path in files for text in texts_in(read_yaml(path))}
    assert len(asked) > 700 and len(written) > 20_000
    assert {text: written[text] for text in asked & written.keys()} == {}
