"""What the levels are given to decide: fresh messages, conversations that grow, and route tables of any length.

Everything is made from numbers, so all levels get the same, and nothing of a new message is in any cache: messages differ
from their first word on.
"""

from __future__ import annotations

import itertools
import random
from typing import Final

from archroute_edge.errors import SettingsError
from archroute_edge.routes import Route, RouteTable

MOST_ROUTES: Final = 240
"""Routes that :func:`table_of` can make."""

Conversation = list[dict[str, str]]

_OPENINGS: Final = ("My", "Our", "The", "Since Monday my", "For a week our", "Again the", "On Windows the", "In production our")
_SUBJECTS: Final = (
    *("parser", "login page", "csv import", "unit test", "data loader", "web socket", "build script", "cache layer"),
    *("backup job", "search index", "mail queue", "image upload", "payment form", "report export"),
)
_FAULTS: Final = ("raises a KeyError", "hangs on start", "returns None", "leaks memory", "skips the last line", "ends early")
_REPLY: Final = (
    "That usually means that an earlier step left something half done. Look at the log of step {number} first, then run it "
    "again with one worker, and compare both results line by line; tell me what you see in line {line}."
)
_FOLLOW_UPS: Final = (
    "I did that for {subject} {number}, and now it says {line} instead; what should I change next?",
    "step {number} looks fine to me, but the {subject} still takes {line} seconds, how can I make it faster?",
    "thanks, {number} lines are right now; please write me a test for the {subject} with {line} cases",
)
_DOMAINS: Final = (
    *("invoice", "travel", "recipe", "garden", "music", "health", "photo", "school", "tax", "car", "weather", "sports"),
    *("insurance", "housing", "library"),
)
_TASKS: Final = (
    *("search", "planning", "booking", "summary", "repair", "comparison", "translation", "reminder", "advice", "purchase"),
    *("report", "complaint", "training", "cancellation", "estimate", "history"),
)


def message(seed: int) -> str:
    """A user message of about 20 tokens; another for every seed."""
    draw = random.Random(f"message {seed}")
    words = (draw.choice(_OPENINGS), draw.choice(_SUBJECTS), draw.choice(_FAULTS))
    return f"{draw.randrange(10**6):06} {' '.join(words)} since version {seed}, can you tell me what is wrong with it?"


def conversation(seed: int, n_turns: int) -> Conversation:
    """Messages of a conversation whose ``n_turns``-th user message is the last; a longer one of the seed begins with them.

    User messages have about 20 tokens, the assistant's between them about 50.
    """
    draw = random.Random(f"conversation {seed}")
    messages = [{"role": "user", "content": message(seed)}]
    for _ in range(1, n_turns):
        filled = {"subject": draw.choice(_SUBJECTS), "number": draw.randrange(1000), "line": draw.randrange(1000)}
        messages.append({"role": "assistant", "content": _REPLY.format(**filled)})
        messages.append({"role": "user", "content": draw.choice(_FOLLOW_UPS).format(**filled)})
    return messages


def table_of(n_routes: int) -> RouteTable:
    """``n_routes`` routes with names and descriptions of ordinary length; a longer table begins with a shorter one.

    Raises:
        SettingsError: more than :data:`MOST_ROUTES`, or none.
    """
    if not 1 <= n_routes <= MOST_ROUTES:
        raise SettingsError(f"a table of {n_routes} routes cannot be made up; there may be 1 to {MOST_ROUTES}")
    # Task by task, so that short tables do not share one domain.
    pairs = itertools.islice(itertools.product(_TASKS, _DOMAINS), n_routes)
    return RouteTable(
        Route(f"{domain}_{task}", f"Requests that ask for {task} around {domain}, for oneself or for others, now or later")
        for task, domain in pairs
    )
