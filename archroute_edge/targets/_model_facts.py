"""What the configuration states about a target, and what a request costs there."""

from __future__ import annotations

from typing import Final

from archroute_edge.config import ModelFacts, Price, RoutingConfig
from archroute_edge.targets._order_words import RequestFacts

A_MILLION: Final = 1_000_000
_NOTHING: Final = ModelFacts()
# Plano prices cached tokens like this, too, if a model has no price of its own for them.
_CACHED_SHARE: Final = 0.1
# What a request is taken to have where it does not say so, to compare prices.
_PROMPT_TOKENS: Final = 1000
_ANSWER_TOKENS: Final = 500


def model_facts(config: RoutingConfig, model: str) -> ModelFacts:
    """What is stated about a model, under this name or under another one that the configuration gives it."""
    stated = config.forward.models
    if not stated or model in stated:
        return stated.get(model, _NOTHING)
    for each in config.models:
        if model == each.name and each.model in stated:
            return stated[each.model]
        if model == each.model and each.name is not None and each.name in stated:
            return stated[each.name]
    return _NOTHING


def cached_price(price: Price) -> float:
    """US dollars for a million tokens that a provider has in its cache: a tenth of the others' if no price is stated."""
    return price.input * _CACHED_SHARE if price.cached is None else price.cached


def request_cost(price: Price, prompt_tokens: int, answer_tokens: int, cached_tokens: int = 0) -> float:
    """US dollars for a request; ``cached_tokens`` are among ``prompt_tokens``."""
    new = max(0, prompt_tokens - cached_tokens)
    return (new * price.input + cached_tokens * cached_price(price) + answer_tokens * price.output) / A_MILLION


def expected_cost(config: RoutingConfig, model: str, facts: RequestFacts) -> float | None:
    """US dollars for a request whose answer is not known yet; None if the configuration knows no price of the model."""
    price = model_facts(config, model).price
    return None if price is None else price_of_request(price, facts)


def price_of_request(price: Price, facts: RequestFacts) -> float:
    """US dollars for a request: 500 tokens of answer, or fewer if it allows no more; 1,000 of prompt if they are not known."""
    prompt = _PROMPT_TOKENS if facts.prompt_tokens is None else facts.prompt_tokens
    answer = _ANSWER_TOKENS if facts.answer_tokens is None else min(_ANSWER_TOKENS, facts.answer_tokens)
    return request_cost(price, prompt, answer)
