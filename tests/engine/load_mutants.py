"""A child process that loads mutants of a model file.

    python -m tests.engine.load_mutants MODEL FIRST LAST SCRATCH ENGINE

writes mutants FIRST to LAST - 1 of MODEL, one after another, to the file SCRATCH, and loads each that
``check_model_file`` and the choice of ENGINE let through, tokenizes with it and evaluates a few tokens. Before each mutant
it prints its number, so that the death of the process names the mutant that caused it, and after it how it went.
"""

from __future__ import annotations

import sys
from pathlib import Path

from archroute_edge.engine import (
    EmbeddingEngine,
    EngineName,
    EngineSettings,
    LoadedModel,
    choose_engine,
    open_engine,
    sequence_batch,
)
from archroute_edge.errors import ArchRouteError
from tests.engine.gguf_file import read_gguf
from tests.engine.mutants import mutant

_TEXT = 'fix the bug "code"}]\n\n in é\U0001f600 <|im_end|> 12345 \t\x00 <tool_call>'


def use(path: Path, engine_name: EngineName = "llama.cpp") -> None:
    """Everything that a decision does with a model file."""
    with LoadedModel(path, wanted=None, engine=lambda header: choose_engine(header, engine_name, n_threads=1).engine) as model:
        if model.kind == "encoder":
            _embed(model)
            return
        vocabulary = model.vocabulary
        _ = vocabulary.control_texts, vocabulary.tokens_by_piece
        tokens = vocabulary.bos_tokens + vocabulary.tokenize(_TEXT) + vocabulary.tokenize(_TEXT, control_tokens=True)
        engine = open_engine(model, EngineSettings(n_ctx=256, n_threads=1))
        try:
            tokens = (tokens or [0])[:100]
            engine.evaluate(sequence_batch(0, tokens, 0, [len(tokens) - 1]))
        finally:
            engine.close()


def _embed(model: LoadedModel) -> None:
    engine = EmbeddingEngine(model, 1)
    try:
        engine.embed([engine.encode(text) for text in (_TEXT, "", "word " * 1000)])
    finally:
        engine.close()


def main(model: str, first: str, last: str, scratch: str, engine: str) -> None:
    engine_name: EngineName = "ik" if engine == "ik" else "llama.cpp"
    file = read_gguf(Path(model))
    path = Path(scratch)
    for number in range(int(first), int(last)):
        # A new file each time: the last one may still be mapped.
        path.unlink(missing_ok=True)
        path.write_bytes(mutant(file, number))
        sys.stdout.write(f"{number} ")
        sys.stdout.flush()
        try:
            use(path, engine_name)
            outcome = "used"
        except ArchRouteError as exc:
            outcome = f"{type(exc).__name__} {exc}"
        sys.stdout.write(" ".join(outcome.split()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
