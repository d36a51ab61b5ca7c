"""Compare the output that a page shows with a command's.

Some of an output varies from run to run or from machine to machine, and is not compared:

- times and sizes (a number before ``ms``, ``s``, ``MB``, ``GiB`` ..., or after ``_ms``), at any width;
- versions, ports, dates and long hexadecimal numbers;
- a probability's second decimal. Kernels for different CPUs add numbers in another order and round activations to 8 bits at
  another place, which moves a probability a little; routes and token counts stay the same.

In a shown output ``...`` stands for any text in a line, and, on a line of its own, for any lines.
"""

from __future__ import annotations

import re
from typing import Final

TOLERANCE: Final = 0.025
"""How far a probability may be from the shown one."""

_MASKS: Final = (
    (re.compile(r" *\b\d[\d,]*(?:\.\d+)? ?(ms|s|KB|MB|GB|KiB|MiB|GiB)\b"), r" # \1"),
    (re.compile(r'(_ms"?: ?)\d+(?:\.\d+)?'), r"\1#"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "DATE"),
    (re.compile(r"\b\d+\.\d+\.\d+(?:\.\w+)*(?::\d+)?"), "VERSION"),
    (re.compile(r"(?<!\.)\b[0-9a-f]{12,}\b"), "HEX"),
    (re.compile(r" +(?=\d+\.\d\d%)"), " "),
)
_PROBABILITY: Final = re.compile(r"(?<![\d.])(?:0\.\d{2,}|1\.0+|\d\.\d+e-\d+|\d{1,3}\.\d\d%)(?![\d.])")
_ANYTHING: Final = re.compile(r" ?\.\.\. ?")


def matches(shown: str, given: str) -> bool:
    """Whether ``given`` equals ``shown``, except for the varying parts."""
    shown, given = _masked(shown), _masked(given)
    found = re.fullmatch(_pattern(shown), given)
    if found is None:
        return False
    pairs = zip(found.groups(), _PROBABILITY.findall(shown), strict=True)
    return all(abs(_value(one) - _value(other)) <= TOLERANCE for one, other in pairs)


def _masked(text: str) -> str:
    for pattern, instead in _MASKS:
        text = pattern.sub(instead, text)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _pattern(shown: str) -> str:
    """An expression for what may be given in place of ``shown``, with a group for each probability."""
    lines = []
    for line in shown.splitlines():
        if line == "...":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(".*?".join(_with_groups(part) for part in _ANYTHING.split(line)) + r"\n")
    return "".join(lines)


def _with_groups(text: str) -> str:
    return f"({_PROBABILITY.pattern})".join(re.escape(part) for part in _PROBABILITY.split(text))


def _value(text: str) -> float:
    return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
