"""Scenarios that need nothing built, on the bundled model: everybody is held to one answer, and counts are true."""

from __future__ import annotations

import dataclasses
import io
import json
from itertools import islice
from pathlib import Path

import pytest
from rich.console import Console

from archroute_edge.errors import PeerError
from tools.measure.peers import report
from tools.measure.peers.question import fresh_messages
from tools.measure.peers.scenarios import (
    CHAT,
    COMPLETION,
    IK_GENERATE,
    OURS,
    OURS_ON_LLAMA_CPP,
    WITH_PREFIX,
    WITHOUT_PREFIX,
    Setting,
    first_turn,
    prefill,
)
from tools.measure.peers.scenarios import second_process as measure_second_process


@pytest.fixture
def setting(tried_kernels: None, bundled_model: Path) -> Setting:
    return Setting(bundled_model, 1, 1, None, None, lambda _step, _done, _total: None)


def test_no_two_messages_of_a_run_begin_alike() -> None:
    """What messages share would be reused, and then no first turn is measured."""
    words = [message.split()[0] for message in islice(fresh_messages(), 40)]
    assert len(set(words)) == len(words)


def test_all_give_the_same_answer_to_the_same_prompt(setting: Setting) -> None:
    """Times of unlike work say nothing: the prompts, what is reused of them, and the answers are one."""
    outcome = first_turn(setting)
    ours, completion, chat = (outcome.replies[name][0] for name in (OURS, COMPLETION, CHAT))
    assert ours.answer == completion.answer == chat.answer == '{"route": "bug_fixing"}'
    assert ours.n_prompt == completion.n_prompt == chat.n_prompt
    assert ours.n_reused == completion.n_reused == chat.n_reused > 100
    # One evaluation of what all answers share, or each token of the answer in turn.
    assert ours.n_evaluated < completion.n_evaluated == chat.n_evaluated
    assert all(each.same_answers for each in outcome.comparisons.values())

    printed = io.StringIO()
    report.show(outcome, Console(file=printed, width=160))
    assert printed.getvalue().count("1 of 1") == 3
    assert printed.getvalue().count("<= 0.88") == 2
    values = json.loads(json.dumps(report.to_dict(outcome)))
    assert values["sides"][OURS]["seconds"] == [ours.seconds]
    assert [each["bar"] for each in values["comparisons"]] == ["<= 0.88", "<= 0.88"]


def test_ik_is_measured_beside_llama_cpp_and_its_own_binding(setting: Setting) -> None:
    """Both engines decide alike; the binding has no grammar, and no cache of the prompt."""
    outcome = first_turn(dataclasses.replace(setting, engine="ik"))
    ours, on_llama_cpp, binding = (outcome.replies[name][0] for name in (OURS, OURS_ON_LLAMA_CPP, IK_GENERATE))
    assert ours.answer == on_llama_cpp.answer == outcome.answers[0]
    assert binding.answer is None
    assert (binding.n_prompt, binding.n_reused) == (ours.n_prompt, 0)
    assert binding.n_evaluated >= binding.n_prompt > ours.n_evaluated


def test_only_the_second_process_finds_the_prefix(setting: Setting) -> None:
    """A prefix that was not saved, or saved for both, would make the two sides one."""
    outcome = measure_second_process(setting)
    with_prefix, without = (outcome.replies[name][0] for name in (WITH_PREFIX, WITHOUT_PREFIX))
    assert with_prefix.n_reused > 100
    assert without.n_reused == 0
    assert with_prefix.n_evaluated + with_prefix.n_reused == without.n_evaluated


def test_what_a_process_complains_of_is_passed_on(setting: Setting, tmp_path: Path) -> None:
    """One line with the reason, not that a process ended."""
    (tmp_path / "notes.gguf").write_text("no model at all, but long enough to be one")
    with pytest.raises(PeerError, match=r"archroute-edge: .*notes\.gguf: not a GGUF file"):
        first_turn(dataclasses.replace(setting, model=tmp_path / "notes.gguf"))


def test_prefill_needs_llama_bench(setting: Setting) -> None:
    with pytest.raises(PeerError, match="--llama-bench"):
        prefill(setting)
