"""Ways to say the same otherwise: of a message, and of a route table."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Final

from archroute_edge import Route, RouteTable

_KEYBOARD: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_BESIDE: Final = {
    key: row[max(place - 1, 0) : place] + row[place + 1 : place + 2] for row in _KEYBOARD for place, key in enumerate(row)
}
# A letter in the middle or at the beginning of a word of English.
_LETTER: Final = re.compile("[A-Za-z](?=[A-Za-z])")
_WORD: Final = re.compile(r"[^\W_]+")


def with_slips(text: str, number: int, seed: int) -> str:
    """``text`` with slips of the fingers; the first of three are those of one and of two. A text without words stays."""
    draw = random.Random(f"{seed} {text}")
    for _ in range(number):
        if places := [found.start() for found in _LETTER.finditer(text)]:
            text = _with_slip(text, places, draw)
    return text


def _with_slip(text: str, places: list[int], draw: random.Random) -> str:
    changed = text
    while changed == text:
        place = draw.choice(places)
        letter, following = text[place], text[place + 1]
        beside = draw.choice(_BESIDE[letter.lower()])
        beside = beside.upper() if letter.isupper() else beside
        # Left out, typed twice, the two the wrong way round, the key beside it.
        typed = draw.choice([following, letter * 2 + following, following + letter, beside + following])
        changed = text[:place] + typed + text[place + 2 :]
    return changed


def without_punctuation(text: str) -> str:
    """``text`` without the punctuation at the ends of words: "don't" and "3.5" stay."""
    kept = "".join(
        char for place, char in enumerate(text) if unicodedata.category(char)[0] != "P" or _is_inside_a_word(text, place)
    )
    return re.sub(" {2,}", " ", kept).strip()


def _is_inside_a_word(text: str, place: int) -> bool:
    return 0 < place < len(text) - 1 and text[place - 1].isalnum() and text[place + 1].isalnum()


def _joined(by: str) -> Callable[[str], str]:
    return lambda name: by.join(_WORD.findall(name))


def _camel_case(name: str) -> str:
    words: list[str] = _WORD.findall(name)
    return words[0] + "".join(word[0].upper() + word[1:] for word in words[1:])


STYLES: Final[Mapping[str, Callable[[str], str]]] = {
    "snake_case": _joined("_"),
    "kebab-case": _joined("-"),
    "camelCase": _camel_case,
}
"""Ways to write a name of several words."""


def renamed(table: RouteTable, names: Mapping[str, str]) -> RouteTable:
    """``table`` with other names for its routes."""
    return RouteTable(Route(names[route.name], route.description) for route in table)


def described(table: RouteTable, descriptions: Mapping[str, str]) -> RouteTable:
    """``table`` with other descriptions."""
    return RouteTable(Route(route.name, descriptions[route.name]) for route in table)


def names_alone(table: RouteTable) -> RouteTable:
    """``table`` without descriptions."""
    return RouteTable(Route(route.name) for route in table)


def shuffled(table: RouteTable, seed: str) -> RouteTable:
    """``table`` in another order, if there is another."""
    draw = random.Random(seed)
    order = list(table)
    while tuple(order) == table.routes and len(table) > 1:
        draw.shuffle(order)
    return RouteTable(order)
