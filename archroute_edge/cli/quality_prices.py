"""Prices of models as ``--price`` of ``archroute quality`` states them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import click

from archroute_edge.config import Price, shorten
from archroute_edge.errors import SettingsError


class Share(click.ParamType[float]):
    """A part of the whole, as configurations state it: ``30%``, or a number from 0 to 1."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; click.BadParameter if it is none."""
        text = str(value).strip()
        try:
            found = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            found = math.nan
        if not 0 <= found <= 1:
            self.fail(f"expected a share from 0 to 1, or from 0% to 100%, not {shorten(text)}", param, ctx)
        return found


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
