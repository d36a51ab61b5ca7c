"""``python -m tools.convert`` as it is typed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from huggingface_hub import constants

from archroute_edge.conversation import Turn
from archroute_edge.engine import LoadedModel
from archroute_edge.prompts import PromptBuilder, prompt_format
from tests.convert import gguf_contents
from tests.convert.typed import Typed
from tools.convert.distribution_comparison import Observation, observe
from tools.fixtures.bert_checkpoints import BertShape, write_bert
from tools.fixtures.checkpoints import QWEN2, Shape, write_checkpoint

SMALL = Shape(hidden_size=256, intermediate_size=256, num_hidden_layers=1)


def test_convert(typed: Typed, tmp_path: Path) -> None:
    """The result on stdout, the progress on stderr."""
    write_checkpoint(tmp_path / "router", QWEN2)
    target = tmp_path / "router.gguf"
    status, out, err = typed(tmp_path / "router", "--outtype", "bf16", "-o", target, "--prompt-format", "gateway", "--json")
    assert status == 0
    (result,) = json.loads(out)
    assert result["path"] == str(target)
    assert result["n_bytes"] == target.stat().st_size
    assert (result["level"], result["architecture"], result["n_tensors"], result["chat_template"]) == (
        "BF16",
        "qwen2",
        26,
        True,
    )
    assert "converting router  done" in err
    assert gguf_contents.read(target).metadata["archroute.prompt_format"] == "gateway"


def test_the_vocabulary_of_a_remote_model(typed: Typed, tmp_path: Path) -> None:
    """It writes prompts, and is no model on this machine; an encoder's is refused."""
    folder = write_checkpoint(tmp_path / "router", QWEN2).folder
    status, out, _ = typed(folder, "--vocab-only", "-o", tmp_path / "router-{level}.gguf")
    target = tmp_path / "router-vocabulary.gguf"
    assert (status, out) == (0, f"{target}  vocabulary  {target.stat().st_size / 1e6:.1f} MB\n")
    with LoadedModel(target, vocabulary_only=True, needs_weights=False) as model:
        assert PromptBuilder(model, prompt_format("card")).count_tokens(Turn("user", "hello")) > 0
    status, _, err = typed(folder, "--vocab-only", "--quantize", "Q8_0", "-o", tmp_path / "x.gguf")
    assert (status, err.count("\n")) == (2, 1)
    assert "--vocab-only writes no weights" in err
    encoder = write_bert(tmp_path / "encoder", BertShape())
    status, _, err = typed(encoder.folder, "--vocab-only", "-o", tmp_path / "x.gguf")
    assert status == 2
    assert err.endswith("an encoder, which is never remote; its vocabulary alone is of no use\n")


def test_quantize_several_levels(typed: Typed, tmp_path: Path) -> None:
    """One conversion for all of them, which is gone afterwards."""
    write_checkpoint(tmp_path / "router", Shape(hidden_size=256, intermediate_size=256, num_hidden_layers=1))
    levels = ("--quantize", "Q8_0", "--quantize", "q4_k_m", "--threads", "1")
    status, out, err = typed(tmp_path / "router", "-o", tmp_path / "router-{level}.gguf", *levels)
    assert status == 0
    assert [line.split()[1] for line in out.splitlines()] == ["Q8_0", "Q4_K_M"]
    assert err.count("converting") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["router", "router-Q4_K_M.gguf", "router-Q8_0.gguf"]
    assert "Q8_0" in gguf_contents.read(tmp_path / "router-Q8_0.gguf").types.values()


def test_mistakes_are_one_line_and_status_2(typed: Typed, tmp_path: Path) -> None:
    """No traceback, no file, and what to do."""
    folder = write_checkpoint(tmp_path / "router").folder
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    target = tmp_path / "out" / "router.gguf"
    target.parent.mkdir()
    (tmp_path / "Q8_0").mkdir()
    for words, message in (
        ((folder, "-o", target), "model.safetensors"),
        ((tmp_path / "nothing", "-o", target), "no such folder"),
        ((tmp_path / "no\x1b[2J\nthing", "-o", target), r"no\x1b[2J thing: no such folder"),
        (("~nosuchuser/router", "-o", target), "~nosuchuser/router: no such folder"),
        ((folder, "-o", target, "--quantize", "Q9"), "no quantization level 'Q9'; there are Q2_K"),
        ((folder, "-o", target, "--quantize", "Q8_0", "--quantize", "Q4_0"), "{level}"),
        ((folder, "-o", tmp_path / "no" / "x.gguf", "--quantize", "Q8_0"), "no such folder"),
        ((folder, "-o", target.parent, "--quantize", "Q8_0", "--verify"), "out: is a folder or a device"),
        ((folder, "-o", tmp_path / "{level}", "--quantize", "Q8_0", "--verify"), "Q8_0: is a folder or a device"),
        ((folder, "-o", os.devnull, "--quantize", "Q8_0"), f"{os.devnull}: is a folder or a device"),
        ((folder, "-o", ".", "--quantize", "Q8_0"), ".: is a folder or a device"),
        ((folder, "-o", target.parent), "out: is a folder or a device"),
        ((folder, "-o", target, "--quantize", "IQ2_M"), "IQ2_M needs an importance matrix; add --imatrix auto"),
        ((folder, "-o", target, "--quantize", "Q8_0", "--imatrix", tmp_path / "no.gguf"), "no.gguf: no such file"),
        ((folder,), "Missing option '-o'"),
        ((folder, "-o", target, "--outtype", "f64"), "'f64' is not one of"),
    ):
        status, out, err = typed(*words)
        assert (status, out) == (2, "")
        assert message in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert err.rstrip("\n").isprintable()
        assert list(target.parent.iterdir()) == []


def test_the_name_of_the_command_may_be_left_out(typed: Typed, tmp_path: Path) -> None:
    """With the options first, too; and the help lists the others."""
    folder = write_checkpoint(tmp_path / "router").folder
    for number, words in enumerate(((folder,), ("convert", folder), ("--outtype", "f16", folder))):
        target = tmp_path / f"{number}.gguf"
        assert typed(*words, "-o", target)[0] == 0
        assert target.is_file()
    status, out, _ = typed("--help")
    assert status == 0
    assert all(f"\n  {name} " in out for name in ("convert", "imatrix", "verify"))


def test_quantized_verified_and_recorded(typed: Typed, tmp_path: Path, few_cases: None) -> None:
    """The JSON beside the model says what it was made from and with, and how it compares."""
    made = tmp_path / "models"
    folder = write_checkpoint(made / "router", SMALL).folder
    levels = ("--quantize", "Q8_0", "--quantize", "Q4_0", "--imatrix", "auto", "--threads", "1")
    status, out, err = typed(folder, "-o", made / "router-{level}.gguf", *levels, "--verify", "--record")
    assert status == 0
    assert out.count("SOUND: ") == 2
    assert "collecting the importance matrix  done" in err
    names = [f"router-{level}.{kind}" for level in ("Q4_0", "Q8_0") for kind in ("gguf", "json")]
    assert sorted(path.name for path in made.iterdir()) == ["router", *names]
    record = json.loads((made / "router-Q4_0.json").read_text())
    model = (made / "router-Q4_0.gguf").read_bytes()
    assert (record["file"], record["sha256"], record["size"]) == (
        "router-Q4_0.gguf",
        hashlib.sha256(model).hexdigest(),
        len(model),
    )
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert record["source"]["sha256"]["model.safetensors"] == weights
    assert (record["source"]["checkpoint"], record["source"]["revision"]) == ("router", None)
    assert record["imatrix"]["datasets"] == ["calibration.yaml"]
    assert record["verification"]["passed"]
    assert record["tools"]["llama-cpp-python"] == llama_cpp.__version__


def test_what_is_not_sound_is_not_kept(typed: Typed, tmp_path: Path, few_cases: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file stays."""
    folder = write_checkpoint(tmp_path / "router", SMALL).folder
    target = tmp_path / "router.gguf"
    target.write_bytes(b"the old model")
    monkeypatch.setattr("tools.convert.file_comparison.allowed_error", lambda type_name: 0.0)
    status, out, err = typed(folder, "-o", target, "--quantize", "Q8_0", "--threads", "1", "--verify", "--record")
    assert (status, out) == (2, "")
    assert "router.gguf: DIFFERS: " in err
    assert "it was not kept" in err
    assert target.read_bytes() == b"the old model"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["router", "router.gguf"]


def test_a_checkpoint_of_the_hub(typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named as the hub names it, taken from the hub's cache, and recorded with its commit and licence."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = Path(constants.HF_HUB_CACHE) / "models--owner--Router-1B"
    folder = write_checkpoint(cache / "snapshots" / commit).folder
    card = '---\nlicense: other\nlicense_name: "katanemo\\e[2J-research"\n---\n'
    (folder / "README.md").write_text(card)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    status, _, err = typed("owner/Router-1B", "-o", tmp_path / "model.gguf", "--record")
    assert status == 0
    assert f"owner/Router-1B at {commit}; licence: katanemo\\x1b[2J-research" in err
    assert gguf_contents.read(tmp_path / "model.gguf").metadata["general.name"] == "Router-1B"
    assert json.loads((tmp_path / "model.json").read_text())["source"]["revision"] == commit
    status, out, err = typed("owner/Another", "-o", tmp_path / "another.gguf")
    assert (status, out) == (2, "")
    assert err.startswith("error: owner/Another: ")
    assert err.count("\n") == 1


def test_the_conversion_is_asked_once_for_all_levels(
    typed: Typed, tmp_path: Path, few_cases: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the real size asking takes minutes; every level is compared with the same answers."""
    write_checkpoint(tmp_path / "router", SMALL)
    asked: list[str] = []

    def noted(path: Path, *arguments: Any, **options: Any) -> list[Observation]:
        asked.append(path.name)
        return observe(path, *arguments, **options)

    monkeypatch.setattr("tools.convert.verification.observe", noted)
    levels = ("--quantize", "Q8_0", "--quantize", "Q6_K", "--threads", "1", "--verify", "--json")
    status, out, _ = typed(tmp_path / "router", "-o", tmp_path / "router-{level}.gguf", *levels)
    assert status == 0
    assert asked == ["base.gguf", "router-Q8_0.gguf", "router-Q6_K.gguf"]
    coarse, fine = sorted(result["verification"]["distributions"]["mean_kl"] for result in json.loads(out))[::-1]
    assert coarse > fine > 0
