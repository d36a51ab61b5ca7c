"""ik-llama-cpp-python's own generation. It has no grammar, and evaluates every prompt from its first token."""

from __future__ import annotations

import time
from typing import Any

from ik_llama_cpp import IkLlama

from tools.measure.peers.question import Question, Reply

_N_CTX = 4096


class IkLlamaCppPython:
    """``IkLlama.generate`` over the prompt's token ids, as many tokens of its own choice as the answer has.

    Args:
        model: the GGUF.
        threads: threads for evaluation.
    """

    def __init__(self, model: str, threads: int) -> None:
        self._llama: Any = IkLlama(model, n_ctx=_N_CTX, n_threads=threads, verbose=False)

    def decide(self, question: Question) -> Reply:
        """One generation; it is shorter if the model ends it, which random weights hardly ever do."""
        started = time.perf_counter()
        generated = self._llama.generate(question.prompt, max_tokens=len(question.answer_tokens))
        self._llama.detokenize(generated)
        seconds = time.perf_counter() - started
        n_prompt = len(question.prompt)
        return Reply(seconds, None, n_prompt, 0, n_prompt + len(generated))
