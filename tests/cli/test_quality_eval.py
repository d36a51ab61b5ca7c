"""``archroute quality eval``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from archroute_edge.cli.quality_prices import parse_prices
from archroute_edge.config import Price
from archroute_edge.errors import SettingsError
from archroute_edge.quality import Outcomes
from tests.cli.conftest import Run, one_line
from tests.quality.made_up import MODELS, KnownScores, made_up_outcomes

N = 40
PAIR = ("--weak", "small", "--strong", "large")
FAST = ("--resamples", "20")


def write_outcomes(folder: Path, outcomes: Outcomes) -> str:
    """The two files of a set."""
    folder.mkdir()
    prompts = [{"id": prompt.id, "text": prompt.messages, "category": prompt.category} for prompt in outcomes.prompts]
    (folder / "prompts_made.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in prompts), encoding="utf-8")
    rows = [
        ",".join(["id", *outcomes.models]),
        *(
            ",".join([prompt.id, *(f"{score:g}" for score in scores)])
            for prompt, scores in zip(outcomes.prompts, outcomes.scores, strict=True)
        ),
    ]
    (folder / "outcomes_made.csv").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return str(folder)


@pytest.fixture
def outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of outcomes, and a predictor of any name that knows the chances."""
    made, chances = made_up_outcomes(N)
    monkeypatch.setattr("archroute_edge.quality.load_predictor", lambda path: KnownScores(MODELS, chances))
    return write_outcomes(tmp_path / "outcomes", made)


def test_the_report_as_json(run: Run, outcomes: str) -> None:
    result = run("quality", "eval", "any.safetensors", outcomes, *PAIR, *FAST, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["predictor"], report["source"], report["prompts"], report["resamples"]) == ("heads", outcomes, N, 20)
    (pair,) = report["pairs"]
    assert (pair["weak"], pair["strong"], pair["whole"]["n"]) == ("small", "large", N)
    assert 0.5 < pair["whole"]["rows"][0]["apgr"]["value"] < 1
    assert report["priced"] is None


def test_the_report_on_the_terminal_and_as_a_page(run: Run, outcomes: str, tmp_path: Path) -> None:
    """Only the report is on stdout; prices set cost against quality."""
    prices = ("--price", "small=0.1,0.4", "--price", "middle=0.5,2", "--price", "large=2,8")
    page = tmp_path / "page.html"
    result = run("quality", "eval", "any.safetensors", outcomes, *PAIR, *prices, *FAST, "--html", str(page))
    assert result.exit_code == 0, result.stderr
    for title in ("small → large", "Quality at equal cost", "What budgets buy, mean score", "Expected scores"):
        assert title in result.stdout
    assert f"{N} prompts, from {outcomes}." in result.stdout
    text = page.read_text(encoding="utf-8")
    assert "archroute quality eval any.safetensors" in text and text.count("<svg ") == 4


def test_a_tier_may_have_no_outcomes(run: Run, outcomes: str, tmp_path: Path) -> None:
    """Sets have different models, and the tiers are those of the training."""
    tiers = tmp_path / "tiers.json"
    options = ("--tiers", str(tiers), *FAST, "--json")
    tiers.write_text('{"small": ["small"], "middle": ["of another set"], "large": ["large", "gone"]}', encoding="utf-8")
    result = run("quality", "eval", "any.safetensors", outcomes, *PAIR, "--train", outcomes, *options)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["pairs"][0]["whole"]["n"] == N
    result = run("quality", "eval", "any.safetensors", outcomes, "--weak", "middle", "--strong", "large", *options)
    assert one_line(result) == "middle: no model of the outcomes, which has small, large"
    tiers.write_text('{"small": ["gone"]}', encoding="utf-8")
    result = run("quality", "eval", "any.safetensors", outcomes, *PAIR, *options)
    assert one_line(result) == "no model of the tier 'small' has outcomes"


def test_system_messages_cost(run: Run, outcomes: str) -> None:
    """As much as the router would pay for them."""
    path = Path(outcomes) / "prompts_made.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    system = {"role": "system", "content": "s" * 30_000}
    for line in lines:
        line["messages"] = [system, {"role": "user", "content": line.pop("text")}]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    options = ("--price", "small=1,0", "--price", "large=2,0", *FAST, "--json")
    (small, _) = json.loads(run("quality", "eval", "any.safetensors", outcomes, *options).stdout)["priced"]["models"]
    assert small["cost_per_1k"] == pytest.approx(10, rel=0.02)


def test_training_outcomes_are_read(run: Run, outcomes: str, tmp_path: Path) -> None:
    training = write_outcomes(tmp_path / "training", made_up_outcomes(N, seed=1, subjects=("law",))[0])
    result = run("quality", "eval", "any.safetensors", outcomes, *PAIR, *FAST, "--train", training, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["bag_of_words"] == f"trained on {N} prompts given for that"
    (pair,) = report["pairs"]
    assert pair["seen"]["n"] + pair["unseen"]["n"] == N


def test_categories_that_a_predictor_has_not_seen(run: Run, outcomes: str) -> None:
    """Trained anew: what the predictor in the file knows of these prompts does not matter."""
    result = run("quality", "eval", "any.safetensors", outcomes, *PAIR, *FAST, "--retrain", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["source"] == f"{outcomes}; the policy trained anew without the categories of each of 3 parts"
    rows = {row["name"]: row["apgr"]["value"] for row in report["pairs"][0]["whole"]["rows"]}
    known = run("quality", "eval", "any.safetensors", outcomes, *PAIR, *FAST, "--json")
    (own,) = [row for row in json.loads(known.stdout)["pairs"][0]["whole"]["rows"] if row["name"] == "heads"]
    assert 0 < rows["heads"] != own["apgr"]["value"]


def test_grades_in_a_table_count_instead_of_those_in_the_files(run: Run, outcomes: str, tmp_path: Path) -> None:
    grades = tmp_path / "grades.csv"
    grades.write_text("id,model,score\n" + "".join(f"p{number},large,0\n" for number in range(N)), encoding="utf-8")
    result = run("quality", "eval", "any.safetensors", outcomes, *PAIR, *FAST, "--grades", str(grades), "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["pairs"][0]["whole"]["strong_score"] == 0


def test_tiers_are_judged_by_the_mean_of_their_models(run: Run, outcomes: str, tmp_path: Path) -> None:
    tiers = tmp_path / "tiers.json"
    tiers.write_text('{"small": ["small"], "large": ["large", "middle"]}', encoding="utf-8")
    scores = made_up_outcomes(N)[0].scores
    result = run("quality", "eval", "any.safetensors", outcomes, *PAIR, *FAST, "--tiers", str(tiers), "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["pairs"][0]["whole"]["strong_score"] == pytest.approx(scores[:, 1:].mean())


def test_without_a_pair_the_models_that_lie_farthest_apart_are_compared(run: Run, outcomes: str) -> None:
    result = run("quality", "eval", "any.safetensors", outcomes, *FAST, "--json")
    assert result.exit_code == 0, result.stderr
    assert "using small and large" in result.stderr
    assert json.loads(result.stdout)["pairs"][0]["strong"] == "large"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--weak", "small"), "1 x --weak and 0 x --strong"),
        (("--weak", "small", "--strong", "huge"), "huge: no model of the predictor"),
        ((*PAIR, "--price", "small=1,2"), "one model with a price"),
        ((*PAIR, "--price", "small"), "expected MODEL=IN,OUT"),
        ((*PAIR, "--html", "no/such/folder.html"), "there is no folder"),
        ((*PAIR, "--encoder", "mini"), "reads no model"),
        ((*PAIR, "--retrain", "--train", "x"), "leave out --train"),
    ],
)
def test_what_cannot_be_done_is_one_line(run: Run, outcomes: str, options: tuple[str, ...], problem: str) -> None:
    result = run("quality", "eval", "any.safetensors", outcomes, *options)
    assert result.exit_code == 2
    assert problem in one_line(result)


def test_without_two_models_in_common_nothing_can_be_compared(run: Run, outcomes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownScores(("small", "other"), np.full((N, 2), 0.5))
    monkeypatch.setattr("archroute_edge.quality.load_predictor", lambda path: known)
    result = run("quality", "eval", "any.safetensors", outcomes)
    assert result.exit_code == 2
    assert "no two of the predictor's models" in one_line(result)


def test_prices_are_read() -> None:
    assert parse_prices(["a=b=0.1,2", "c=0,0"]) == {"a=b": Price(0.1, 2), "c": Price(0, 0)}


@pytest.mark.parametrize("text", ["", "a", "a=", "a=1", "a=1,2,3", "=1,2", "a=x,1", "a=-1,1", "a=nan,1", "a=inf,1"])
def test_a_price_that_is_none_is_told(text: str) -> None:
    with pytest.raises(SettingsError, match="expected MODEL=IN,OUT"):
        parse_prices([text])


def test_two_prices_of_a_model_are_told() -> None:
    with pytest.raises(SettingsError, match="two prices for 'a'"):
        parse_prices(["a=1,2", "a=1,2"])
