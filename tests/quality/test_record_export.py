"""What the record exports of graded requests is read as outcomes."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from archroute_edge.errors import QualityError
from archroute_edge.quality._reading import read_outcomes
from archroute_edge.record import Content, Grade, Recorder, Try, Wanted, grade, open_record, outcomes
from tests.record.entries import entry

CHAT = '{"messages": [{"role": "system", "content": "Be nice."}, {"role": "user", "content": "my loop fails"}]}'
RESPONSES = '{"input": [{"type": "reasoning"}, {"role": "user", "content": [{"type": "input_text", "text": "hola"}]}]}'


def exported(folder: Path, *, with_texts: bool) -> Path:
    """Two requests, and a copy of the first to a shadow; an answer of each model and of the second request is graded."""
    file, path = folder / "requests.sqlite", folder / "export.jsonl"
    shadow = {"tries": (Try("ollama/small", "ollama", 200, None, 5.0, 50.0),), "model": "ollama/small"}
    with closing(Recorder(file, keep_content=with_texts)) as recorder:
        recorder.add(entry(1, id="aa" * 16, content=Content(CHAT, "its answer")))
        recorder.add(entry(2, id="bb" * 16, operation="responses", route="other", content=Content(RESPONSES, "another")))
        recorder.add(entry(3, id="cc" * 16, content=Content(CHAT, "not graded")))
        recorder.add(entry(4, id="dd" * 16, shadow_of="aa" * 16, **shadow))
    for name, score in (("aa", 1.0), ("bb", 0.25), ("dd", 0.5)):
        grade(file, name * 16, Grade(score, None, None))
    with open_record(file) as record:
        path.write_text("".join(json.dumps(each) + "\n" for each in outcomes(record, Wanted())), encoding="utf-8")
    return path


def test_graded_answers_and_shadows_are_outcomes(tmp_path: Path) -> None:
    read = read_outcomes([exported(tmp_path, with_texts=True)])
    assert [(prompt.id, prompt.category, prompt.messages) for prompt in read.prompts] == [
        ("aa" * 16, "bug_fixing", ({"role": "user", "content": "my loop fails"},)),
        ("bb" * 16, "other", ({"role": "user", "content": "hola"},)),
    ]
    # The target that failed before them has no score.
    assert read.models == ("openai/two", "ollama/small")
    np.testing.assert_array_equal(read.scores, [[1, 0.5], [0.25, np.nan]])


def test_a_record_without_texts_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(QualityError, match="no request has its text; record texts with archroute serve --record=content"):
        read_outcomes([exported(tmp_path, with_texts=False)])
