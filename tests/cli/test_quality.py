"""``archroute quality``: train, score and add."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archroute_edge import quality
from archroute_edge.cli.quality_train import open_encoder
from archroute_edge.errors import ModelFileError
from archroute_edge.models import find_bundled
from archroute_edge.quality import (
    Heads,
    HeadsByKind,
    Novelty,
    PromptFeatures,
    Ridges,
    _factorization,
    encoder_identity,
    load_predictor,
    read_about,
    save_predictor,
    train_heads,
)
from tests.cli.conftest import Run, one_line
from tests.quality.difficulty import MadeUp, make
from tests.quality.few_ridges import search_few_ridges
from tests.quality.test_heads_by_kind import KINDS, outcomes_of

TRAIN = ("quality", "train")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp's threads spin for each other."""
    monkeypatch.setattr("archroute_edge.engine.physical_cores", lambda: 1)


@pytest.fixture
def few_ridges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which ridges are chosen says nothing here."""
    search_few_ridges(monkeypatch, 1)


@pytest.fixture(scope="module")
def made_up() -> MadeUp:
    return make(40)


@pytest.fixture
def folder(made_up: MadeUp, tmp_path: Path) -> Path:
    """A set of outcomes."""
    found = tmp_path / "outcomes"
    found.mkdir()
    outcomes = made_up.outcomes
    lines = [json.dumps({"id": each.id, "text": each.messages, "category": each.category}) for each in outcomes.prompts]
    (found / "prompts_mine.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [",".join(["id", *outcomes.models])]
    for prompt, scores in zip(outcomes.prompts, outcomes.scores, strict=True):
        rows.append(",".join([prompt.id, *("" if np.isnan(score) else f"{score:g}" for score in scores)]))
    (found / "outcomes_mine.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def trained(made_up: MadeUp) -> Heads:
    """One that reads no vectors, trained without a choice of ridges, which takes seconds."""
    features = PromptFeatures(made_up.features.texts, None)
    two = made_up.outcomes.columns(("model 0", "model 2"))
    found = train_heads(two, features, ridges=Ridges(4.0, 16.0, 2.0, 1.0), word_bits=8).predictor
    found.novelty = Novelty.of(features)
    return found


@pytest.fixture
def predictor(trained: Heads, tmp_path: Path) -> Path:
    path = tmp_path / "p.safetensors"
    save_predictor(trained, path, trained_on="mine (40 prompts)", licence="CC0")
    return path


def write_lines(path: Path, *lines: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def test_training_prints_what_was_learned(run: Run, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    result = run(*TRAIN, str(folder), "-o", str(path), "--encoder", "none")
    assert result.exit_code == 0
    first, ridges, held_out, figure, written = result.stdout.splitlines()
    assert first.startswith("heads: 3 models learned from 40 prompts in ")
    assert ridges.startswith("ridges: shared ")
    assert held_out.startswith("held out, whole categories at a time: ") and held_out.endswith(
        " prompts that model 0 and model 2 answered"
    )
    assert figure.startswith("  APGR 0.") and figure.endswith("; random 0.500")
    assert written.startswith(f"{path}: 0.")
    again = tmp_path / "again.safetensors"
    summary = json.loads(run(*TRAIN, str(folder), "-o", str(again), "--encoder", "none", "--json").stdout)
    assert (summary["policy"], summary["models"]) == ("heads", ["model 0", "model 1", "model 2"])
    assert 0 <= summary["held_out"]["apgr"] <= 1 and summary["held_out"]["weak"] == "model 0"
    # The same seed, the same file.
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.usefixtures("few_ridges")
def test_vectors_are_kept_for_the_next_training(run: Run, folder: Path, tmp_path: Path, random_encoder: Path) -> None:
    kept, one, two = (str(tmp_path / name) for name in ("kept.npz", "one.st", "two.st"))
    options = ("--vectors", kept, "--encoder", str(random_encoder))
    assert run(*TRAIN, str(folder), "-o", one, *options).exit_code == 0
    made = (tmp_path / "kept.npz").stat().st_mtime_ns
    assert run(*TRAIN, str(folder), "-o", two, *options, "--targets", "model 2,model 0").exit_code == 0
    assert (tmp_path / "kept.npz").stat().st_mtime_ns == made
    refused = run(*TRAIN, str(folder), "-o", two, "--vectors", kept, "--encoder", "none")
    assert refused.exit_code == 2 and "--vectors keeps an encoder's vectors, and none are read" in refused.stderr


@pytest.mark.usefixtures("few_ridges")
def test_the_sample_has_the_tokens_of_all_messages(run: Run, tmp_path: Path) -> None:
    """A request costs its system prompt, too."""
    system = {"role": "system", "content": "s" * 3000}
    lines = [{"messages": [system, {"role": "user", "content": f"number {n:05}"}], "scores": {"m": n % 2}} for n in range(4)]
    path = tmp_path / "p.safetensors"
    result = run(*TRAIN, write_lines(tmp_path / "graded.jsonl", *lines), "-o", str(path), "--encoder", "none")
    assert result.exit_code == 0, result.output
    tokens = load_predictor(path).sample_tokens
    assert tokens is not None and tokens.tolist() == [1004] * 4


@pytest.mark.usefixtures("few_ridges")
def test_names_that_a_terminal_would_obey_are_escaped(run: Run, tmp_path: Path) -> None:
    names, path = ("a\x1b[2J", "b\u202e"), str(tmp_path / "p.safetensors")
    lines = [{"text": f"hello {n}", "scores": {names[0]: n % 2, names[1]: 1}} for n in range(20)]
    graded = write_lines(tmp_path / "graded.jsonl", *lines)
    price = [f"--price={name}=0,{cost}" for cost, name in enumerate(names)]
    for result in (
        run(*TRAIN, graded, "-o", path, "--encoder", "none"),
        run("quality", "eval", path, graded, "--train", graded, "--resamples", "0"),
        run("quality", "add", path, graded, "--model", "c\x1b[2J", "--grades", graded_table(tmp_path), "-o", path),
        run("quality", "calibrate", path, *price, "--share", "0.5"),
    ):
        assert result.exit_code == 0, result.output
        assert all(char.isprintable() or char == "\n" for char in result.output)


def graded_table(folder: Path) -> str:
    """One grade of a model that no file of prompts has."""
    path = folder / "grades.csv"
    path.write_text("id,model,score\n1,c\x1b[2J,1\n", encoding="utf-8")
    return str(path)


def test_a_model_without_any_outcome_is_left_out(run: Run, tmp_path: Path) -> None:
    """A column may be empty, and stops no training of the others."""
    lines = [{"id": str(number), "text": f"number {number}"} for number in range(4)]
    write_lines(tmp_path / "prompts_mine.jsonl", *lines)
    (tmp_path / "outcomes_mine.csv").write_text("id,a,empty,b\n0,1,,0\n1,0,,1\n2,1,,1\n3,0,,\n", encoding="utf-8")
    path = tmp_path / "p.safetensors"
    options = ("-o", str(path), "--encoder", "none")
    result = run(*TRAIN, str(tmp_path), *options)
    assert result.exit_code == 0, result.output
    assert load_predictor(path).models == ("a", "b")
    said = one_line(run(*TRAIN, str(tmp_path), *options, "--targets", "a,empty"))
    assert said == "no outcomes of a model 'empty'; there are those of a, b"


@pytest.mark.usefixtures("few_ridges")
def test_targets_and_licence_are_kept(run: Run, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    result = run(*TRAIN, str(folder), "-o", str(path), "--encoder", "none", "--licence", "CC0", "--targets", "model 2,model 0")
    assert result.exit_code == 0, result.output
    found = load_predictor(path)
    assert found.models == ("model 2", "model 0") and found.encoder is None and found.novelty is not None
    about = read_about(path)
    assert (about["licence"], about["trained_on"]) == ("CC0", "mine (40 prompts)")


@pytest.mark.usefixtures("few_ridges")
def test_tiers_are_means_of_their_models(run: Run, folder: Path, tmp_path: Path) -> None:
    tiers = tmp_path / "tiers.json"
    tiers.write_text('{"small": ["model 0", "model of another set"], "large": ["model 1", "model 2"]}', encoding="utf-8")
    path = tmp_path / "p.safetensors"
    result = run(*TRAIN, str(folder), "-o", str(path), "--encoder", "none", "--tiers", str(tiers))
    assert result.exit_code == 0, result.output
    assert load_predictor(path).models == ("small", "large")
    tiers.write_text('{"small": ["nobody"]}', encoding="utf-8")
    said = one_line(run(*TRAIN, str(folder), "-o", str(path), "--encoder", "none", "--tiers", str(tiers)))
    assert said == "no model of the tier 'small' has outcomes"
    tiers.write_text('{"small": []}', encoding="utf-8")
    said = one_line(run(*TRAIN, str(folder), "-o", str(path), "--encoder", "none", "--tiers", str(tiers)))
    assert "expected tiers with their models" in said


@pytest.mark.usefixtures("few_ridges")
def test_half_characters_are_no_trouble(run: Run, tmp_path: Path) -> None:
    """In names of models, sets and tiers, and in arguments: a training must not fail when it is done."""
    half = "caf\udce9"
    lines = [{"text": f"number {n}", "scores": {half: n % 2, "b": 1}} for n in range(4)]
    graded = tmp_path / f"{half}.jsonl" if sys.platform == "linux" else tmp_path / "graded.jsonl"
    write_lines(graded, *lines)
    path, tiers = tmp_path / "p.safetensors", tmp_path / "tiers.json"
    options = ("-o", str(path), "--encoder", "none")
    result = run(*TRAIN, str(graded), *options, "--licence", half)
    assert result.exit_code == 0, result.output
    assert load_predictor(path).models == ("caf\ufffd", "b") and read_about(path)["licence"] == "caf\ufffd"
    tiers.write_text(json.dumps({half: [half], "b": ["b"]}), encoding="utf-8")
    result = run(*TRAIN, str(graded), *options, "--tiers", str(tiers))
    assert result.exit_code == 0, result.output
    new = write_lines(tmp_path / "new.jsonl", {"text": "number 1", "score": 1}, {"text": "number 2", "score": 0})
    result = run("quality", "add", str(path), new, "--model", f"new {half}", "-o", str(path))
    assert result.exit_code == 0, result.output
    assert load_predictor(path).models == ("caf\ufffd", "b", "new caf\ufffd")


def test_a_name_that_no_file_can_hold_is_told_before_training(run: Run, tmp_path: Path) -> None:
    lines = [{"text": f"number {n}", "scores": {"x" * 201: n % 2}} for n in range(4)]
    graded, path = write_lines(tmp_path / "graded.jsonl", *lines), tmp_path / "p.safetensors"
    said = one_line(run(*TRAIN, graded, "-o", str(path), "--encoder", "none"))
    assert said.endswith(" has 201 characters; 200 are the most") and not path.exists()


@pytest.mark.usefixtures("few_ridges")
def test_without_an_option_the_encoder_is_the_bundled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is called like it in the working folder; a file that the user names is that file."""
    (tmp_path / "mini").write_text("a note")
    monkeypatch.chdir(tmp_path)
    bundled = find_bundled("mini").path
    assert open_encoder(None, "heads") == (bundled, encoder_identity(bundled))
    with pytest.raises(ModelFileError, match=r"^mini: "):
        open_encoder("mini", "heads")


def test_vectors_are_the_encoders(run: Run, folder: Path, tmp_path: Path, random_encoder: Path) -> None:
    """What was trained on an encoder's vectors is scored by that encoder alone."""
    path = tmp_path / "p.safetensors"
    targets = ("--targets", "model 0,model 2")
    result = run(*TRAIN, str(folder), "-o", str(path), "--encoder", str(random_encoder), *targets)
    assert result.exit_code == 0, result.output
    found = load_predictor(path)
    assert isinstance(found, Heads) and found.encoder == encoder_identity(random_encoder)
    prompts = write_lines(tmp_path / "prompts.jsonl", {"id": "a", "text": "hello"})
    assert "not on this machine" in one_line(run("quality", "score", str(path), prompts))
    assert "another model than mini" in one_line(run("quality", "score", str(path), prompts, "--encoder", "mini"))
    scored = run("quality", "score", str(path), prompts, "--encoder", str(random_encoder))
    assert scored.exit_code == 0, scored.output
    assert {*json.loads(scored.stdout)["scores"]} == {"model 0", "model 2"}


def test_sets_have_heads_of_their_own(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If what is easy differs among them; not with --together."""
    search_few_ridges(monkeypatch, 2)
    made = outcomes_of(contrary=True)
    for group in KINDS:
        chosen = [number for number, prompt in enumerate(made.prompts) if prompt.group == group]
        lines = [{"id": str(n), "text": made.prompts[n].messages, "category": made.prompts[n].category} for n in chosen]
        (tmp_path / f"prompts_{group}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        rows = [f"{n},{made.scores[n, 0]:g},{made.scores[n, 1]:g}" for n in chosen]
        (tmp_path / f"outcomes_{group}.csv").write_text("\n".join(["id,first,second", *rows]) + "\n", encoding="utf-8")
    path = tmp_path / "p.safetensors"
    _, said, share, *ridges, _, _, _ = run(*TRAIN, str(tmp_path), "-o", str(path), "--encoder", "none").stdout.splitlines()
    assert said == "each set of prompts has heads of its own as well, which did better than those of all sets alone"
    assert share == "the heads of all sets have a share of 0.25 beside them"
    assert [line.partition(":")[0] for line in ridges] == [f"ridges of {name}" for name in ("all sets", "letters", "numbers")]
    assert isinstance(load_predictor(path), HeadsByKind)
    judge = ("quality", "eval", str(path), str(tmp_path), "--weak", "second", "--strong", "first", "--resamples", "0")
    of_sets = run(*judge, "--retrain", "--json").stdout
    run(*TRAIN, str(tmp_path), "-o", str(path), "--encoder", "none", "--together")
    assert isinstance(load_predictor(path), Heads)
    # Trained anew as the file was.
    of_all = run(*judge, "--retrain", "--json").stdout
    brier = [json.loads(report)["models"][0]["brier"] for report in (of_sets, of_all)]
    assert brier[0] < brier[1] - 0.05


@pytest.mark.parametrize("policy", ["factorization", "similarity", "classifier"])
def test_the_other_policies_learn_from_battles(
    run: Run, folder: Path, tmp_path: Path, random_encoder: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What more rounds of matrix factorization learn is tested elsewhere.
    monkeypatch.setattr(_factorization, "_MOST_ROUNDS", 10)
    path = tmp_path / "p.safetensors"
    options = ("--policy", policy, "--encoder", str(random_encoder))
    result = run(*TRAIN, str(folder), "-o", str(path), *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{policy}: 3 models learned from 40 prompts in ")
    assert "APGR" in result.stdout
    lines = [
        {"model_a": f"m{number % 3}", "model_b": f"m{(number + 1) % 3}", "winner": "model_a", "text": f"text {number % 4}"}
        for number in range(12)
    ]
    battles = write_lines(tmp_path / "battles.jsonl", *lines)
    result = run(*TRAIN, "--battles", battles, "-o", str(path), *options)
    assert result.exit_code == 0, result.output
    assert load_predictor(path).models == ("m0", "m1", "m2")
    assert "no figure: too few different prompts have scores of two models" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "there is nothing to learn from; name OUTCOMES, or battles with --battles"),
        (("FOLDER", "--together", "--policy", "similarity"), "--together is for heads, and similarity learns all sets"),
        (("--battles", "b.jsonl"), "heads learns from scores and not from battles"),
        (("FOLDER", "--policy", "similarity", "--encoder", "none"), "similarity learns from an encoder's vectors"),
        (("FOLDER", "--targets", "model 0,model 9"), "no outcomes of a model 'model 9'; there are those of model 0, model 1"),
        (("FOLDER", "--targets", "model 0,model 0"), "a model is named twice"),
        (("FOLDER", "--targets", "model 0,,model 1"), "expected names of models, separated by commas"),
        (("FOLDER", "--tiers", "t.json", "--targets", "model 0"), "--tiers says what is learned"),
        (("FOLDER", "--tiers", "none.json"), "none.json: cannot be read"),
        (("FOLDER", "--encoder", "tiny"), "tiny"),
        (("nowhere",), "nowhere"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    run: Run, folder: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "p.safetensors"
    given = [str(folder) if argument == "FOLDER" else argument for argument in arguments]
    assert said in one_line(run(*TRAIN, *given, "-o", str(path)))
    assert not path.exists()


def test_no_folder_to_write_to_is_said_before_training(run: Run, folder: Path, tmp_path: Path) -> None:
    assert "there is no folder" in one_line(run(*TRAIN, str(folder), "-o", str(tmp_path / "no" / "p"), "--encoder", "none"))


def test_scores_are_a_line_a_prompt(run: Run, predictor: Path, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "say hello"}]
    lines = ({"id": "a", "text": "say hello"}, {"id": "b", "messages": messages}, {"text": "prove it"})
    file = write_lines(tmp_path / "prompts.jsonl", *lines)
    result = run("quality", "score", str(predictor), file)
    assert result.exit_code == 0
    scored = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["id"] for each in scored] == ["a", "b", "3"]
    assert scored[0]["scores"] == scored[1]["scores"] != scored[2]["scores"]
    assert all(0 <= score <= 1 for each in scored for score in each["scores"].values())
    piped = run("quality", "score", str(predictor), "-", stdin=Path(file).read_text(encoding="utf-8"))
    assert piped.stdout == result.stdout


def test_lines_before_a_wrong_one_are_answered_through_a_pipe(run: Run, predictor: Path) -> None:
    result = run("quality", "score", str(predictor), "-", stdin='{"id": "a", "text": "hello"}\n{"id": "b"}\n')
    assert result.exit_code == 2
    assert json.loads(result.stdout)["id"] == "a"
    assert "standard input line 2: " in result.stderr


def test_an_encoder_says_nothing_to_a_predictor_without_vectors(run: Run, predictor: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "prompts.jsonl", {"text": "hello"})
    said = one_line(run("quality", "score", str(predictor), file, "--encoder", "mini"))
    assert said == "the predictor reads no model; leave out --encoder"


def test_a_file_that_is_no_predictor_is_told(run: Run, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "prompts.jsonl", {"text": "hello"})
    assert one_line(run("quality", "score", file, file)).startswith(f"{file}: is no predictor")


def test_a_model_is_added_from_graded_prompts(run: Run, predictor: Path, made_up: MadeUp, tmp_path: Path) -> None:
    prompts = write_lines(
        tmp_path / "prompts.jsonl", *({"id": each.id, "text": each.messages} for each in made_up.outcomes.prompts)
    )
    suggested = run("quality", "add", str(predictor), prompts, "--suggest", "12")
    assert suggested.exit_code == 0
    chosen = [json.loads(line) for line in suggested.stdout.splitlines()]
    assert len({each["id"] for each in chosen}) == 12
    graded = write_lines(tmp_path / "graded.jsonl", *({**each, "score": number % 2} for number, each in enumerate(chosen)))
    path = tmp_path / "grown.safetensors"
    result = run("quality", "add", str(predictor), graded, "--model", "new one", "-o", str(path))
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{path}: 3 models, with new one from 12 graded prompts\n"
    assert result.stderr == "12 graded prompts are few; from 30 on the new model's scores are steadier\n"
    found = load_predictor(path)
    assert found.models == ("model 0", "model 2", "new one") and found.novelty is not None
    assert found.sample_tokens is not None and read_about(path) | {"models": "", "settings": ""} == read_about(predictor) | {
        "models": "",
        "settings": "",
    }
    before, after = (run("quality", "score", str(each), prompts).stdout.splitlines() for each in (predictor, path))
    for old, new in zip(map(json.loads, before), map(json.loads, after), strict=True):
        assert {name: new["scores"][name] for name in old["scores"]} == old["scores"]


def test_a_suggested_prompt_is_the_files_line(run: Run, predictor: Path, tmp_path: Path) -> None:
    """The new model is asked what is printed: without the system message it would be another request."""
    said = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    prompts = write_lines(tmp_path / "prompts.jsonl", {"category": "law", "messages": said}, {"id": 7, "text": "\ud800"})
    result = run("quality", "add", str(predictor), prompts, "--suggest", "2")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"id": "1", "category": "law", "messages": said},
        {"id": "7", "text": "\ud800"},
    ]
    empty = write_lines(tmp_path / "empty.jsonl")
    assert "empty.jsonl: there are no prompts" in one_line(run("quality", "add", str(predictor), empty, "--suggest", "2"))


def test_a_model_is_added_from_a_table_of_grades(run: Run, predictor: Path, made_up: MadeUp, tmp_path: Path) -> None:
    """The suggested prompts are graded in a table, and nothing is written into their file."""
    prompts = write_lines(
        tmp_path / "prompts.jsonl", *({"id": each.id, "text": each.messages} for each in made_up.outcomes.prompts)
    )
    table = tmp_path / "grades.csv"
    table.write_text("id,model,score\n" + "".join(f"{number},new,{number % 2}\n" for number in range(30)), encoding="utf-8")
    path = tmp_path / "grown.safetensors"
    result = run("quality", "add", str(predictor), prompts, "--grades", str(table), "--model", "new", "-o", str(path))
    assert result.exit_code == 0, result.output
    assert result.output == f"{path}: 3 models, with new from 30 graded prompts\n"
    result = run("quality", "add", str(predictor), prompts, "--grades", str(table), "--model", "new", "-o", str(path), "--json")
    assert json.loads(result.stdout) == {
        "file": str(path),
        "models": ["model 0", "model 2", "new"],
        "model": "new",
        "graded": 30,
    }


@pytest.mark.usefixtures("few_ridges")
def test_grades_are_learned_from(run: Run, folder: Path, tmp_path: Path) -> None:
    """A model may have no others."""
    table = tmp_path / "grades.csv"
    table.write_text("id,model,score\n" + "".join(f"{number},new,{number % 2}\n" for number in range(40)), encoding="utf-8")
    path = tmp_path / "p.safetensors"
    options = ("--encoder", "none", "--targets", "model 0,new", "--grades", str(table))
    result = run(*TRAIN, str(folder), "-o", str(path), *options)
    assert result.exit_code == 0, result.output
    assert load_predictor(path).models == ("model 0", "new")
    said = one_line(run(*TRAIN, "--battles", str(table), "--policy", "similarity", "--grades", str(table), "-o", str(path)))
    assert said == "--grades are of prompts in OUTCOMES; name those"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name the new model with --model, and the file to write with -o"),
        (("--model", "x"), "name the new model with --model, and the file to write with -o"),
        (
            ("--model", "x", "--suggest", "3"),
            "--suggest prints prompts to grade, as JSON; leave out --model, --grades, --json and -o",
        ),
        (("--model", "", "-o", "OUT"), "the name of the model '' is blank"),
        (("--model", "x" * 201, "-o", "OUT"), "has 201 characters; 200 are the most"),
        (("--model", " a", "-o", "OUT"), "the new model's name is ' a', with blanks around it"),
        (("--model", "model 0", "-o", "OUT"), "the predictor has the model 'model 0' already"),
    ],
)
def test_what_cannot_be_added_is_one_line(
    run: Run, predictor: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    graded = write_lines(tmp_path / "graded.jsonl", {"text": "hello", "score": 1})
    given = [str(tmp_path / "out") if argument == "OUT" else argument for argument in arguments]
    # It is said before the prompts are read by an encoder.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "features_of", None)
        assert said in one_line(run("quality", "add", str(predictor), graded, *given))
    assert not (tmp_path / "out").exists()
