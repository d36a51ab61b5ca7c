"""Prices of models as ``--price`` of ``archroute quality`` states them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from archroute_edge.config import Price, shorten
from archroute_edge.errors import SettingsError


def parse_prices(texts: Iterable[str]) -> dict[str, Price]:
    """Model to its price from ``MODEL=IN,OUT``, US dollars for a million tokens of the prompt and of the answer.

    Raises:
        SettingsError: one is written otherwise, or a model has two.
    """
    found: dict[str, Price] = {}
    for text in texts:
        # A model's name may have an equals sign; amounts have none.
        model, _, amounts = text.rpartition("=")
        try:
            prompt, answer = (float(each) for each in amounts.split(","))
        except ValueError:
            prompt = answer = math.nan
        if not model or not all(math.isfinite(each) and each >= 0 for each in (prompt, answer)):
            raise SettingsError(f"--price {shorten(text)}: expected MODEL=IN,OUT, two prices of at least 0, such as large=2,8")
        if model in found:
            raise SettingsError(f"--price: two prices for {shorten(model)}")
        found[model] = Price(prompt, answer)
    return found
