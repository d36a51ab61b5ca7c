"""Reading the grammars that the library writes: one rule of literals, or of one literal before alternatives in parentheses."""

from __future__ import annotations

import ast
import re


def read_gbnf(grammar: str) -> list[str]:
    """The texts that ``grammar`` allows, in order; an AssertionError if it is of another shape."""
    shape = re.fullmatch(r"root ::= (?:(L) \((L(?: \| L)*)\)|(L(?: \| L)*))\n", re.sub(r'"(?:[^"\\\n]|\\.)+"', "L", grammar))
    assert shape is not None, grammar
    # GBNF's literals are Python's.
    first, *others = (ast.literal_eval(each) for each in re.findall(r'"(?:[^"\\\n]|\\.)+"', grammar))
    return [first + other for other in others] if shape[1] else [first, *others]
