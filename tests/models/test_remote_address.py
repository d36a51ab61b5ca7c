"""Addresses of remote models."""

from __future__ import annotations

from pathlib import Path

import pytest

from archroute_edge.deciders import find_models
from archroute_edge.errors import ModelNotFoundError, SettingsError
from archroute_edge.models import find_model


@pytest.mark.parametrize(
    ("written", "url", "model"),
    [
        ("http://gpu-box:8000#tiny", "http://gpu-box:8000", "tiny"),
        ("HTTPS://gpu-box/v1/#tiny", "https://gpu-box", "tiny"),
        ("http://[::1]:8080/models/a#tiny", "http://[::1]:8080/models/a", "tiny"),
        ("http://gpu-box?vocabulary=tiny", "http://gpu-box", ""),
        ("http://gpu-box?vocabulary=tiny&timeout=2.5&concurrency=4&api=vllm&key=K#a+b", "http://gpu-box", "a+b"),
    ],
)
def test_addresses(written: str, url: str, model: str, bundled_model: Path) -> None:
    """With the file that has the vocabulary; a cascade's second part may have the cascade's sign in it."""
    found = find_model(written)
    assert found.remote is not None
    assert (found.remote.url, found.remote.model, found.path) == (url, model, bundled_model)
    assert found.name == (f"{url}#{model}" if model else url)
    assert find_models(f"mini+{written}")[1] == found
    assert find_models(written) == (found,)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("http://gpu-box:8000", "name the model behind a '#'"),
        ("http://#tiny", "names no host"),
        ("http://gpu box#tiny", "holds a blank, or another character that no address has$"),
        ("http://gpu-box#my tiny", "holds a blank, or another character that no address has$"),
        ("http://gpu-box?vocabulary=my models/tiny.gguf#tiny", "write a blank in an option as %20"),
        ("http://gpu-box#\ud800", "another character that no address has"),
        ("https://gpu-box?ca=a%00b&vocabulary=tiny", "the option ca holds a null character"),
        ("http://gpu-box:port#tiny", "cannot be read"),
        ("http://user:secret@gpu-box#tiny", "holds credentials; put the key into ARCHROUTE_REMOTE_KEY"),
        ("http://gpu-box?speed=9#tiny", "no option 'speed'; there are api, ca, concurrency, key, timeout, vocabulary"),
        ("http://gpu-box?timeout=1&timeout=2#tiny", "the option timeout stands twice"),
        ("http://gpu-box?ca=#tiny", "the option ca has no value"),
        ("http://gpu-box?api=ollama#tiny", "no api 'ollama'; there are vllm, sglang, llama-server"),
        ("http://gpu-box?key=sk-secret#tiny", "key takes the name of an environment variable"),
        ("http://gpu-box?timeout=nan#tiny", "a number of seconds above 0"),
        ("http://gpu-box?concurrency=1.5#tiny", "a whole number from 1 to 256"),
        ("http://gpu-box?vocabulary=http://gpu-box%23tiny", "has to be a file on this machine"),
    ],
)
def test_what_is_no_address(written: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        find_model(written)
    assert message in f"{caught.value}$"
    assert "secret" not in str(caught.value)


def test_whose_vocabulary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A served model is known by its repository, its name in the catalogue, or its file's; nothing is downloaded."""
    for name in ("katanemo/Arch-Router-1.5B", "katanemo/Arch-Router-1.5B.gguf", "arch-router", "Arch-Router-1.5B-Q4_K_M.gguf"):
        with pytest.raises(
            ModelNotFoundError, match=r"with the model's vocabulary; arch-router is not on this machine.* models pull"
        ):
            find_model(f"http://gpu-box#{name}")
    with pytest.raises(ModelNotFoundError, match=r"has to be named: .* \S+\?vocabulary=FILE.gguf#me/mine"):
        find_model("http://gpu-box#me/mine")
    monkeypatch.setenv("ARCHROUTE_MODELS_DIR", str(tmp_path))
    for level in ("Q2_K", "Q8_0"):
        (tmp_path / f"Arch-Router-1.5B-{level}.gguf").write_bytes(b"GGUF")
    for name, level in (("katanemo/Arch-Router-1.5B", "Q2_K"), ("arch-router:q2_k", "Q2_K")):
        found = find_model(f"http://gpu-box#{name}")
        assert (found.path.name, found.prompt_format) == (f"Arch-Router-1.5B-{level}.gguf", "card")
