"""Random route tables and conversations, awkward names among them."""

from __future__ import annotations

import random

from archroute_edge.conversation import Turn
from archroute_edge.routes import Route, RouteTable

AWKWARD_NAMES: tuple[tuple[str, ...], ...] = (
    ("a", "ab", "abc", "abcd"),
    ("code", "code_fixing", "code_fix", "coding"),
    ("caf\u00e9", "cafe", "caf\u00e9s"),
    ("\u65e5\u672c\u8a9e", "\u65e5\u672c", "\u4e2d\u6587"),
    ("\U0001f600", "\U0001f600\U0001f601", "\U0001f680 go"),
    ('quo"te', "back\\slash", "back\\\\slash", "new\nline", "tab\there"),
    ("\x01control", "\x7fdelete", "\u2028separator"),
    ("</s>", "x</s>", "<|im_end|>", "<|im_end|>x", "<|endoftext|>"),
    ("<tool_call>", "<tool_call>x", "x</tool_call>", "<tool"),
    ("{routes}", '{"route": "x"}', '"}', "]}"),
    ("other ", "Other", "others", "oth"),
    ("a/b", "a|b", "(a)", "[a]", "a*", "a?", "a+", "::=", "# a"),
    ("only",),
)

_WORDS = [
    "fix",
    "the",
    "code",
    "bug",
    "in",
    "route",
    "help",
    "with",
    "api",
    "user",
    "program",
    "is",
    "a",
    "you",
    "the",
    "content",
    "name",
    "loop",
    "error",
    "please",
    "thanks",
    "café",
    "日本",
    "😀",
    "write",
    "test",
    "IndexError",
    "42",
    "\\n",
    "{x}",
    '"quoted"',
]


def random_name(draw: random.Random) -> str:
    kind = draw.random()
    if kind < 0.35:
        return draw.choice(draw.choice(AWKWARD_NAMES))
    if kind < 0.75:
        return draw.choice("_- ").join(draw.choice(_WORDS) for _ in range(draw.randint(1, 3)))
    return "".join(chr(draw.choice([draw.randint(33, 126), draw.randint(0xA1, 0x2FF)])) for _ in range(draw.randint(1, 8)))


def random_table(draw: random.Random, most: int = 12) -> RouteTable:
    """1 to ``most`` routes."""
    names: dict[str, None] = {}
    for _ in range(draw.randint(1, most)):
        name = random_name(draw)
        if name.strip() and name != "other":
            names[name] = None
    routes = {}
    for name in names or ["alone"]:
        route = Route(name, " ".join(draw.choice(_WORDS) for _ in range(draw.randint(0, 8))))
        routes[route.name] = route
    return RouteTable(routes.values())


def random_conversation(draw: random.Random) -> tuple[Turn, ...]:
    """1, 3 or 5 turns, the user's first and last."""
    return tuple(
        Turn("assistant" if index % 2 else "user", " ".join(draw.choice(_WORDS) for _ in range(draw.randint(1, 12))))
        for index in range(draw.choice([1, 1, 3, 5]))
    )
