"""What is read of a prompt: numbers about its text, its words, and the encoder's vector."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute_edge.conversation import read_messages
from archroute_edge.deciders import TRAINED_TOKENS, conversation_text
from archroute_edge.engine import EmbeddingEngine, LoadedModel
from archroute_edge.errors import ModelFileError, QualityError
from archroute_edge.quality import (
    Prompt,
    VectorMaker,
    check_encoder,
    encoder_identity,
    features_of,
    find_encoder,
)
from archroute_edge.quality._text_features import LONGEST_TEXT, N_FEATURES, TEXT_FEATURES, _word_hashes, read_text
from archroute_edge.system import bundled_folder

NAMES = [name for name, _ in TEXT_FEATURES]
BASE = 0x100000001B3


def numbers(text: str) -> dict[str, float]:
    return dict(zip(NAMES, read_text(text, 8).numbers.tolist(), strict=True))


def slow_hash(word: bytes) -> int:
    """The hash of a word, letter by letter."""
    return sum(byte * pow(BASE, place, 1 << 64) for place, byte in enumerate(word)) % (1 << 64)


def test_a_words_hash_is_that_of_its_bytes_alone() -> None:
    """Found for all words at once, from sums over the whole text: those before a word must leave no trace."""
    hashes, n_bytes = _word_hashes("héllo, 世界ok (12x)".encode())
    words = [word.encode() for word in ("héllo", "世", "界", "ok", "00x")]
    assert hashes.tolist() == [slow_hash(word) for word in words]
    assert n_bytes == sum(map(len, words))


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    read = read_text(text, 10)
    assert read.numbers.shape == (N_FEATURES,) and np.isfinite(read.numbers).all()
    assert (np.diff(read.words) > 0).all() and ((read.words >= 0) & (read.words < 1 << 10)).all()
    if len(read.words):
        assert float(np.square(read.weights).sum()) == pytest.approx(1.0, abs=1e-4)


def test_words_have_the_same_cells_in_every_process() -> None:
    """Python's own hashes of texts differ from process to process."""
    code = (
        "from archroute_edge.quality._text_features import read_text; print(read_text('Which is the best?', 15).words.tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == str(read_text("Which is the best?", 15).words.tolist())


def test_case_and_digits_do_not_tell_words_apart_and_order_does() -> None:
    def words(text: str) -> list[int]:
        return [int(cell) for cell in read_text(text, 15).words]

    assert words("Add 17 and 25") == words("add 48 AND 99")
    assert words("add 17") != words("add 177")
    assert words("dog bites man") != words("man bites dog")


def test_numbers_say_what_kind_of_prompt_it_is() -> None:
    choice = numbers("Which of these is not prime?\nA. 17\nB. 21\nC. 31")
    assert (choice["choices"], choice["choices_of_numbers"]) == (3.0, 1.0)
    assert choice["questions"] == pytest.approx(np.log(2))
    assert choice["asks_what"] > 0 and choice["negations"] > 0
    assert numbers("I. Newton was a physicist.")["choices"] == 0.0
    code = numbers("def f(x):\n    return x == 1\n")
    assert code["code"] > 1 and code["indented"] > 0.2
    assert numbers(r"Find $\int x^2$")["latex"] > 1 and numbers(r"Find $\int x^2$")["asks_to_solve"] > 0
    assert numbers("Fill in: the ___ is blue")["blanks"] == 1.0
    assert numbers("привет")["other_scripts"] == 1.0 and numbers("été")["accents"] == pytest.approx(2 / 3)
    assert numbers("Write a poem")["asks_to_write"] > 0


def test_the_middle_of_a_very_long_text_is_not_read() -> None:
    """A megabyte takes no longer than 16,384 characters; its length is still known."""
    half = LONGEST_TEXT // 2
    start, end = "one two " * (half // 8), " three four" * half
    short, long = (read_text(f"{start}{'x ' * n}{end[-half:]}", 12) for n in (10, 500_000))
    assert short.words.tolist() == long.words.tolist()
    assert long.numbers[NAMES.index("characters")] > short.numbers[NAMES.index("characters")] + 3
    random_text = "".join(random.Random(1).choices("ab \n", k=LONGEST_TEXT * 2))
    assert len(read_text(random_text, 12).words) > 0


def test_a_prompt_without_vectors_is_its_last_text() -> None:
    messages = (
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "last"},
    )
    features = features_of([Prompt("a", "hello"), Prompt("b", messages)], None)
    assert features.texts == ("hello", "last") and features.vectors is None


def test_a_prompt_without_text_is_named() -> None:
    with pytest.raises(QualityError, match=r"^prompt 'b': no user message with text"):
        features_of([Prompt("a", "hello"), Prompt("b", "  ")], None)


def test_vectors_are_those_that_the_encoder_decides_by(random_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever part of a list a prompt is in; earlier turns are read as in a decision."""
    monkeypatch.setattr("archroute_edge.engine.physical_cores", lambda: 1)
    messages = (
        {"role": "user", "content": "fix it"},
        {"role": "assistant", "content": "how?"},
        {"role": "user", "content": "now"},
    )
    prompts = [*(Prompt(str(number), f"text {number}") for number in range(70)), Prompt("m", messages)]
    done: list[tuple[int, int]] = []
    features = features_of(prompts, random_encoder, lambda n, total: done.append((n, total)))
    assert done == [(64, 71), (71, 71)]
    assert features.vectors is not None
    with LoadedModel(random_encoder, wanted="encoder") as model:
        engine = EmbeddingEngine(model, 1, TRAINED_TOKENS)
        for row in (0, 69, 70):
            text = conversation_text(read_messages(prompts[row].messages))
            np.testing.assert_allclose(features.vectors[row], engine.embed([engine.encode(text)])[0], atol=1e-3)
        engine.close()
    assert features_of([], random_encoder).vectors is not None


def test_an_encoder_is_found_by_its_identity(random_encoder: Path) -> None:
    bundled = bundled_folder() / "mini-Q8_0.gguf"
    assert find_encoder(encoder_identity(bundled)).samefile(bundled)
    with pytest.raises(QualityError, match="reads a model that is not on this machine"):
        find_encoder(encoder_identity(random_encoder))


def test_another_encoder_is_refused(random_encoder: Path, bundled_model: Path) -> None:
    identity = encoder_identity(random_encoder)
    check_encoder(identity, identity, "mini")
    check_encoder(None, identity, "mini")
    with pytest.raises(QualityError, match=r"another model than mini; train it again .* --encoder mini$"):
        check_encoder("0" * 64, identity, "mini")
    with pytest.raises(ModelFileError):
        encoder_identity(bundled_model)
    with pytest.raises(ModelFileError):
        VectorMaker(bundled_model)


def test_kept_vectors_are_not_computed_again(random_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run has computed before it was interrupted is there for the next one, whatever the prompts' order."""
    file = tmp_path / "kept.npz"
    prompts = [Prompt(str(number), f"prompt {number % 5}") for number in range(7)]
    first = features_of(prompts[:3], random_encoder, kept=file)
    whole = features_of(prompts, random_encoder, kept=file)
    assert whole.texts == features_of(prompts, None).texts
    plain = features_of(prompts, random_encoder)
    assert whole.vectors is not None and first.vectors is not None and plain.vectors is not None
    assert (whole.vectors[:3] == first.vectors).all()
    np.testing.assert_allclose(whole.vectors, plain.vectors, atol=1e-5)
    monkeypatch.setattr("archroute_edge.quality._features.VectorMaker", None)
    again = features_of(prompts[::-1], random_encoder, kept=file)
    assert again.vectors is not None and (again.vectors[::-1] == whole.vectors).all()


def test_a_file_of_other_vectors_is_refused(random_encoder: Path, tmp_path: Path) -> None:
    file, prompts = tmp_path / "kept.npz", [Prompt("a", "hello")]
    np.savez(file, encoder=np.array("ab" * 32), keys=np.zeros((1, 16), np.uint8), vectors=np.ones((1, 4), np.float32))
    with pytest.raises(QualityError, match="has the vectors of another encoder; name another file"):
        features_of(prompts, random_encoder, kept=file)
    identity = np.array(encoder_identity(random_encoder))
    for vectors in (np.full((1, 4), np.nan, np.float32), np.float32(1), np.ones(1, np.float32), np.ones((2, 4), np.float32)):
        np.savez(file, encoder=identity, keys=np.zeros((1, 16), np.uint8), vectors=vectors)
        with pytest.raises(QualityError, match="is damaged; remove it"):
            features_of(prompts, random_encoder, kept=file)
    array = io.BytesIO()
    np.save(array, np.ones((1, 4), np.float32))
    whole = file.read_bytes()
    # The flags of the first of its parts say that it is encrypted, or its kind of compression is none that is known.
    entry = whole.index(b"PK\1\2")
    encrypted, compressed = (whole[: entry + at] + b"\x63" + whole[entry + at + 1 :] for at in (8, 10))
    for content in (b"", b"{}", whole[:-200], array.getvalue(), encrypted, compressed):
        file.write_bytes(content)
        with pytest.raises(QualityError, match=r"kept\.npz: no file of kept vectors; name another file"):
            features_of(prompts, random_encoder, kept=file)
