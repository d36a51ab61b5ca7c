"""llama-cpp-python's own completion, with a grammar."""

from __future__ import annotations

import itertools
import time
from typing import Any

import llama_cpp
from llama_cpp.llama_grammar import LlamaGrammar

from tools.measure.peers.question import Question, Reply, token_literal_grammar

_N_CTX = 4096


class LlamaCppPython:
    """``Llama.create_completion`` over the prompt's token ids, or ``create_chat_completion`` over its user message.

    Args:
        model: the GGUF.
        threads: threads for evaluation.
        chat: whether it is asked as a chat.
    """

    def __init__(self, model: str, threads: int, chat: bool) -> None:
        self._chat = chat
        # All layers on the GPU, as for every side, if this build has a backend for one.
        self._llama: Any = llama_cpp.Llama(
            model, n_ctx=_N_CTX, n_threads=threads, n_threads_batch=threads, n_gpu_layers=-1, verbose=False
        )

    def decide(self, question: Question) -> Reply:
        """One completion, up to the end of generation."""
        llama = self._llama
        before = llama._input_ids.tolist()
        settings = {
            "max_tokens": len(question.answer_tokens) + 1,
            "temperature": 0.0,
            "grammar": LlamaGrammar.from_string(token_literal_grammar(question.answer_tokens), verbose=False),
        }
        started = time.perf_counter()
        if self._chat:
            result = llama.create_chat_completion([{"role": "user", "content": question.body}], **settings)
        else:
            result = llama.create_completion(question.prompt, **settings)
        seconds = time.perf_counter() - started
        (choice,) = result["choices"]
        answer = choice["message"]["content"] if self._chat else choice["text"]
        n_prompt = result["usage"]["prompt_tokens"]
        both = zip(before, llama._input_ids.tolist()[:n_prompt], strict=False)
        # As Llama.generate does: if the whole prompt is in the cache, its last token is evaluated again.
        n_reused = min(sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], both)), n_prompt - 1)
        return Reply(seconds, answer, n_prompt, n_reused, int(llama.n_tokens) - n_reused)
