"""How servers are asked for the probabilities of single tokens: the request and the reply of each.

Read in vLLM 0.33.0 (``entrypoints/openai/completion/protocol.py``), SGLang 0.5.23 (``managers/io_struct.py``) and llama.cpp
0c1e57098 (``tools/server``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from archroute_edge.models import RemoteApi

# Added to the logits of the tokens that llama-server is asked about: what is left to all others is less than a float holds.
_BIAS: Final = 100.0
_NEGLIGIBLE: Final = 1e-6
_SMALLEST: Final = -9999.0
"""The logarithm of a probability of nothing, as vLLM writes it."""
# Sums of probabilities that were rounded to 16 bits.
_MOST_PROBABILITY: Final = 1.05


class UnusableReplyError(Exception):
    """A reply without what was asked for; the message says what is wrong, and what to do."""


@dataclass(frozen=True)
class TokenScores:
    """The logarithms of some tokens' probabilities after a prompt, up to a common addend, and the tokens it had cached."""

    logarithms: dict[int, float]
    n_cached: int = 0


@dataclass(frozen=True)
class Api:
    """A kind of server.

    Args:
        title: its name for people.
        owner: what it calls itself in ``owned_by`` of its models.
        path: where it is asked.
        most_ids: tokens that a request may ask about; 0 is no bound.
        body: the request's body, from the model's name, the prompt's tokens and those asked about.
        read: what a reply says; the arguments are the reply, the length of the prompt and the tokens asked about.
    """

    title: str
    owner: str
    path: str
    most_ids: int
    body: Callable[[str, Sequence[int], Sequence[int]], dict[str, Any]]
    read: Callable[[Any, int, Sequence[int]], TokenScores]


def _vllm_body(model: str, prompt: Sequence[int], ids: Sequence[int]) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": list(prompt),
        "add_special_tokens": False,
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": 0,
        "logprob_token_ids": list(ids),
        "return_tokens_as_token_ids": True,
    }


def _read_vllm(reply: Any, n_prompt: int, ids: Sequence[int]) -> TokenScores:
    usage = reply.get("usage") or {}
    _check_prompt(usage.get("prompt_tokens"), n_prompt)
    found = reply["choices"][0]["logprobs"]["top_logprobs"][0]
    missing = [each for each in ids if f"token_id:{each}" not in found]
    if missing:
        raise UnusableReplyError(f"it ignores logprob_token_ids ({_share(missing, ids)}); use vLLM 0.33 or later")
    scores = _log_probabilities({each: found[f"token_id:{each}"] for each in ids})
    return TokenScores(scores, _count((usage.get("prompt_tokens_details") or {}).get("cached_tokens")))


def _sglang_body(_model: str, prompt: Sequence[int], ids: Sequence[int]) -> dict[str, Any]:
    return {
        "input_ids": list(prompt),
        "sampling_params": {"max_new_tokens": 1, "temperature": 0},
        "return_logprob": True,
        "logprob_start_len": -1,
        "top_logprobs_num": 0,
        "token_ids_logprob": list(ids),
    }


def _read_sglang(reply: Any, n_prompt: int, ids: Sequence[int]) -> TokenScores:
    meta = reply["meta_info"]
    _check_prompt(meta.get("prompt_tokens"), n_prompt)
    if not meta.get("output_token_ids_logprobs"):
        raise UnusableReplyError("it ignores token_ids_logprob; use SGLang 0.5 or later")
    found = {entry[1]: entry[0] for entry in meta["output_token_ids_logprobs"][0]}
    missing = [each for each in ids if each not in found]
    if missing:
        raise UnusableReplyError(f"it ignores token_ids_logprob ({_share(missing, ids)})")
    return TokenScores(_log_probabilities({each: found[each] for each in ids}), _count(meta.get("cached_tokens")))


def _llama_server_body(_model: str, prompt: Sequence[int], ids: Sequence[int]) -> dict[str, Any]:
    # Its grammar does not change the probabilities that it reports, and a bias does if they are asked for after sampling: the
    # reply has just these tokens, and their probabilities among themselves.
    return {
        "prompt": list(prompt),
        "n_predict": 1,
        "temperature": 1.0,
        "samplers": [],
        "logit_bias": [[each, _BIAS] for each in ids],
        "n_probs": len(ids),
        "post_sampling_probs": True,
        "cache_prompt": True,
        "response_fields": ["completion_probabilities", "tokens_evaluated", "truncated", "timings"],
    }


def _read_llama_server(reply: Any, n_prompt: int, ids: Sequence[int]) -> TokenScores:
    _check_prompt(reply.get("tokens_evaluated"), n_prompt)
    if reply.get("truncated"):
        raise UnusableReplyError("it cuts prompts off; start it with a larger context")
    found = {entry["id"]: entry.get("prob") for entry in reply["completion_probabilities"][0]["top_probs"]}
    wanted = set(ids)
    others = sum(_number(value) for each, value in found.items() if each not in wanted)
    if others > _NEGLIGIBLE or not wanted & found.keys():
        raise UnusableReplyError("it ignores logit_bias, so that other tokens take the place of those asked for")
    # What is not listed has underflowed.
    values = {each: _number(found.get(each, 0.0)) for each in ids}
    if min(values.values()) < 0 or abs(sum(values.values()) - 1) > _MOST_PROBABILITY - 1:
        raise UnusableReplyError("the probabilities that it gives do not add up to 1")
    scores = {each: max(math.log(value), _SMALLEST) if value > 0 else _SMALLEST for each, value in values.items()}
    return TokenScores(scores, _count((reply.get("timings") or {}).get("cache_n")))


APIS: Final[dict[RemoteApi, Api]] = {
    "vllm": Api("vLLM", "vllm", "/v1/completions", 128, _vllm_body, _read_vllm),
    "sglang": Api("SGLang", "sglang", "/generate", 0, _sglang_body, _read_sglang),
    "llama-server": Api("llama-server", "llamacpp", "/completion", 0, _llama_server_body, _read_llama_server),
}


def _share(missing: Sequence[int], ids: Sequence[int]) -> str:
    return f"{len(missing)} of {len(ids)} tokens are missing from its reply"


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
        raise UnusableReplyError("its reply has what is no number in the place of a probability")
    return float(value)


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _check_prompt(n_read: object, n_prompt: int) -> None:
    """A server that puts tokens of its own in front of a prompt, or cuts it, has read another one."""
    if n_read is not None and n_read != n_prompt:
        raise UnusableReplyError(f"it read {n_read!r} tokens of a prompt that has {n_prompt}")


def _log_probabilities(values: dict[int, Any]) -> dict[int, float]:
    scores = {each: max(_number(value), _SMALLEST) for each, value in values.items()}
    if sum(math.exp(min(value, 1.0)) for value in scores.values()) > _MOST_PROBABILITY:
        raise UnusableReplyError("it gives no log-probabilities; with vLLM, leave --logprobs-mode at raw_logprobs")
    return scores
