"""``archroute quality calibrate``: from a share or a budget to a rate, on prompts of a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archroute_edge.quality
from archroute_edge.conversation import read_messages
from archroute_edge.quality import Novelty, Predictor, PromptFeatures
from archroute_edge.targets import RequestFacts
from tests.cli.conftest import Run, run
from tests.fake_predictor import FakePredictor, harder_when_longer

__all__ = ["run"]

PRICES = ("--price", "small=0,0", "--price", "large=2,16")
TEXTS = ["x" * (10 * number) for number in range(1, 11)]
Saved = list[tuple[Predictor, Path, dict[str, str]]]


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{number}", "text": text}) + "\n" for number, text in enumerate(TEXTS)))
    return str(path)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Predictor], Saved]:
    """Have any file hold this predictor; gives what is written."""

    def use(predictor: Predictor) -> Saved:
        saved: Saved = []
        about = {"trained_on": "some outcomes", "licence": "MIT"}
        monkeypatch.setattr(archroute_edge.quality, "load_predictor", lambda _path: predictor)
        monkeypatch.setattr(archroute_edge.quality, "read_about", lambda _path: about)
        monkeypatch.setattr(
            archroute_edge.quality, "save_predictor", lambda found, path, **texts: saved.append((found, path, texts))
        )
        return saved

    return use


Use = Callable[[Predictor], Saved]


def found(run: Run, *arguments: str, stdin: str | None = None) -> dict[str, Any]:
    result = run("quality", "calibrate", "my.safetensors", *arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.stderr
    values: dict[str, Any] = json.loads(result.stdout)
    return values


def test_a_share_of_a_files_prompts(run: Run, use: Use, prompts: str) -> None:
    """The small model is expected to score 0.8, 0.7, ... 0 and 0: three of ten prompts are worth the large one."""
    saved = use(FakePredictor(expect=harder_when_longer))
    report = found(run, prompts, "--share", "0.3", *PRICES)
    assert report["chosen"]["shares"] == pytest.approx({"small": 0.7, "large": 0.3})
    # The eighth prompt, of 70 characters: 0.7 for 23 tokens in and 500 out.
    assert report["rate"] == pytest.approx(0.7 / ((23 * 2 + 8000) / 1e6), rel=1e-5)
    assert report["alone"]["large"]["expected_score"] == pytest.approx(0.9)
    assert (report["n_prompts"], report["unlike"], report["file"], saved) == (10, None, None, [])
    lines = "".join(json.dumps({"messages": [{"role": "user", "content": text}]}) + "\n" for text in TEXTS)
    assert found(run, "-", "--share", "0.3", *PRICES, stdin=lines)["rate"] == report["rate"]


def test_the_bundled_predictor_by_its_name(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of that name goes before it."""
    arguments = (
        "quality",
        "calibrate",
        "bundled",
        "--share",
        "30%",
        "--price",
        "small=0,0",
        "--price",
        "frontier=3,15",
        "--json",
    )
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert 0.0 < json.loads(result.stdout)["chosen"]["dear_share"] <= 0.3
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundled").write_text("none")
    assert run(*arguments).exit_code == 2


def test_a_budget_and_a_table(run: Run, use: Use, prompts: str) -> None:
    use(FakePredictor(expect=harder_when_longer))
    report = found(run, prompts, "--cost-per-1k", "2.5", *PRICES)
    assert 1.7 < report["chosen"]["cost_per_1k"] <= 2.5
    result = run("quality", "calibrate", "my.safetensors", prompts, "--cost-per-1k", "2.5", *PRICES)
    assert result.stdout.rstrip().endswith(f"rate {report['rate']:g}")
    assert "always large" in result.stdout and "10 prompts." in result.stdout
    assert "unlike" not in result.stderr


def test_the_written_predictor_has_the_prompts_as_its_sample(run: Run, use: Use, prompts: str, tmp_path: Path) -> None:
    """A share in a configuration has to come to the rate that was printed."""
    saved = use(FakePredictor(expect=harder_when_longer, sample=np.full((3, 2), 0.5)))
    report = found(run, prompts, "--share", "0.3", *PRICES, "-o", str(tmp_path / "mine.safetensors"))
    ((predictor, path, texts),) = saved
    assert (str(path), texts) == (report["file"], {"trained_on": "some outcomes", "licence": "MIT"})
    assert predictor.sample == pytest.approx(np.array([harder_when_longer(text) for text in TEXTS]), abs=1e-7)
    assert predictor.sample_tokens is not None
    assert predictor.sample_tokens.tolist() == [len(text) // 3 for text in TEXTS]
    use(predictor)
    again = found(run, "--share", "0.3", *PRICES)
    assert (again["rate"], again["n_prompts"]) == (report["rate"], 10)


def test_system_and_tool_messages_cost_what_the_router_pays_for_them(run: Run, use: Use, tmp_path: Path) -> None:
    """No predictor reads them, but the price of a request has them."""
    saved = use(FakePredictor(expect=harder_when_longer))
    messages = [
        {"role": "system", "content": "s" * 30_000},
        {"role": "user", "content": "hi there"},
        {"role": "tool", "content": "t" * 300},
        {"role": "user", "content": "x" * 100},
    ]
    stdin = json.dumps({"messages": messages}) + "\n" + json.dumps({"text": "hi there"}) + "\n"
    path = str(tmp_path / "mine.safetensors")
    report = found(run, "-", "--cost-per-1k", "50", *PRICES, "-o", path, stdin=stdin)
    ((predictor, _, _),) = saved
    assert predictor.sample_tokens is not None
    assert predictor.sample_tokens.tolist() == [RequestFacts.of(read_messages(messages)).prompt_tokens, 2]
    costs = [(tokens * 2 + 500 * 16) / 1e3 for tokens in predictor.sample_tokens]
    assert report["alone"]["large"]["cost_per_1k"] == pytest.approx(np.mean(costs))


def test_prompts_unlike_those_of_the_training_are_told(run: Run, use: Use, prompts: str) -> None:
    predictor = FakePredictor(expect=harder_when_longer)
    predictor.novelty = Novelty.of(PromptFeatures(tuple(TEXTS * 20), None))
    use(predictor)
    assert found(run, prompts, "--share", "0.3", *PRICES)["unlike"] == 0.0
    lines = "".join(json.dumps({"text": text}) + "\n" for text in (*TEXTS, "你好，请问这个问题怎么解决？", "12345 67890"))
    result = run("quality", "calibrate", "my.safetensors", "-", "--share", "0.3", *PRICES, "--json", stdin=lines)
    assert json.loads(result.stdout)["unlike"] == pytest.approx(2 / 12)
    assert "17% of the prompts are unlike those that the predictor was trained on" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (PRICES, "give either --share or --cost-per-1k"),
        (("--share", "nan", *PRICES), "expected a share from 0 to 1, or from 0% to 100%, not 'nan'"),
        (("--share", "nan%", *PRICES), "expected a share from 0 to 1, or from 0% to 100%, not 'nan%'"),
        (("--cost-per-1k", "nan", *PRICES), "--cost-per-1k is nan; expected an amount"),
        (("--share", "130%", *PRICES), "expected a share from 0 to 1, or from 0% to 100%, not '130%'"),
        (("--cost-per-1k", "inf", *PRICES), "--cost-per-1k is inf; expected an amount"),
        (("--share", "0.1", "--cost-per-1k", "1", *PRICES), "give either --share or --cost-per-1k"),
        (("--share", "0.1"), "give --price MODEL=IN,OUT for each model that a request may go to; the predictor knows 'small'"),
        (("--share", "0.1", "--price", "other=1,2"), "the predictor knows no model 'other'; it knows 'small', 'large'"),
        (("--share", "0.1", "--price", "small=1"), "--price 'small=1': expected MODEL=IN,OUT"),
        (("--share", "0.1", "--price", "small=1,-2"), "expected MODEL=IN,OUT"),
        (("--share", "0.1", "--price", "small=1,nan"), "expected MODEL=IN,OUT"),
        (("--share", "0.1", "--price", "small=1,inf"), "expected MODEL=IN,OUT"),
        (("--share", "0.1", "--price", "=1,2"), "expected MODEL=IN,OUT"),
        (("--share", "0.1", *PRICES, *PRICES), "two prices for 'small'"),
        (("--share", "0.1", "--price", "small=1,1"), "a share of 10.0% cannot be kept"),
        (("--cost-per-1k", "0.001", "--price", "small=1,1"), "1,000 requests for $0.001 cannot be had"),
        (("--share", "2", *PRICES), "Invalid value for '--share'"),
    ],
)
def test_what_cannot_be_done_is_one_line(run: Run, use: Use, prompts: str, arguments: tuple[str, ...], message: str) -> None:
    use(FakePredictor(expect=harder_when_longer))
    result = run("quality", "calibrate", "my.safetensors", prompts, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_prompts_have_to_be_there(run: Run, use: Use, tmp_path: Path) -> None:
    use(FakePredictor(expect=harder_when_longer))
    for arguments, message in (
        (("-",), "standard input: there are no prompts"),
        ((), "my.safetensors: has no sample of prompts; name a file of yours"),
        (("--encoder", "mini"), "--encoder reads PROMPTS; name them"),
        (("-o", str(tmp_path / "x.safetensors")), "-o writes PROMPTS as the predictor's sample; name them"),
    ):
        result = run("quality", "calibrate", "my.safetensors", *arguments, "--share", "0.1", *PRICES, stdin="")
        assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
