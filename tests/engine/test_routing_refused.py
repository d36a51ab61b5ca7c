"""Models that can be loaded, and that routing has to refuse: the message names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from archroute_edge.errors import ModelFileError, PromptFormatError
from archroute_edge.routes import Route
from archroute_edge.routing import Router
from tests.engine.gguf_file import STRING, GGUFFile


def test_a_prompt_format_that_nobody_knows(sound: GGUFFile, path: Path) -> None:
    """The file says so, so the file is named; whoever knows better can still use it."""
    sound.set("archroute.prompt_format", STRING, b"sonnet")
    sound.write(path)
    with pytest.raises(PromptFormatError) as caught:
        Router([Route("a")], model=path, prefix_cache=False)
    assert str(caught.value).startswith(f"{path}: archroute.prompt_format: no prompt format 'sonnet'; there are card")
    with Router([Route("a")], model=path, prompt_format="card", prefix_cache=False) as router:
        assert router.model_file.path == path


def test_a_vocabulary_that_cannot_write_an_answer(sound: GGUFFile, path: Path) -> None:
    sound["tokenizer.ggml.token_type"].value = [3] * len(sound["tokenizer.ggml.tokens"].value)
    with pytest.raises(ModelFileError, match="the vocabulary lacks bytes") as caught:
        Router([Route("a")], model=sound.write(path), prefix_cache=False)
    assert str(caught.value).startswith(f"{path}: ")
