"""Small disturbances of a message, such as typos, and the styles of route names."""

from __future__ import annotations

import random
import re
import string

from training.tiny.public_data import words_of

_OPENERS = ["hey, ", "hi, ", "Hello! ", "hello, ", "ok ", "so ", "um ", "please ", "quick question: ", "Hi there. ", "yo "]
_CLOSERS = [" please", " thanks", " pls", ", thank you", "!!", "...", " ?", " asap", " :)", " 🙏", " thx"]
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwz", ["a", "e", "i", "o", "u", "ar", "en", "ix", "ou"]
_WIDE = {"'": "’", '"': "“", "e": "é", "-": "–", "o": "ö", "a": "à", "u": "ü"}


def typo(text: str, rng: random.Random) -> str:
    """Swap, drop, double or replace one letter."""
    letters = [i for i, c in enumerate(text) if c.isalpha()]
    if len(letters) < 4:
        return text
    at = rng.choice(letters[1:])
    kind = rng.randrange(4)
    if kind == 0:
        return text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at + 1 :]
    if kind == 2:
        return text[:at] + text[at] + text[at:]
    return text[:at] + rng.choice(string.ascii_lowercase) + text[at + 1 :]


def _without_a_word(text: str, rng: random.Random) -> str:
    """Leave a word out, or replace it by an unknown one: the request is mostly clear without it."""
    words = text.split(" ")
    if len(words) < 6:
        return text
    at = rng.randrange(len(words))
    unknown = "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(rng.choice([2, 3])))
    words[at : at + 1] = [] if rng.random() < 0.5 else [unknown]
    return " ".join(words)


def disturb(text: str, rng: random.Random) -> str:
    """A message with light noise; about half of all stay as they are."""
    original = text
    if rng.random() < 0.5:
        return text
    if rng.random() < 0.25:
        text = text.lower()
    elif rng.random() < 0.15:
        text = text[:1].upper() + text[1:]
    elif rng.random() < 0.03:
        text = text.upper()
    if rng.random() < 0.2:
        text = text.rstrip(".?! ")
    if rng.random() < 0.06:
        text = re.sub(r"[,.?!']", "", text)
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 3])):
        text = typo(text, rng)
    if rng.random() < 0.12:
        text = _without_a_word(text, rng)
    if rng.random() < 0.12:
        text = rng.choice(_OPENERS) + text
    if rng.random() < 0.12:
        text += rng.choice(_CLOSERS)
    if rng.random() < 0.04:
        letter = rng.choice(list(_WIDE))
        text = text.replace(letter, _WIDE[letter], 1)
    if rng.random() < 0.06:
        text += rng.choice([" ", "\n", "  "])
    return text if text.strip() else original


def restyle(name: str, style: str) -> str:
    """Write a route name in a style: snake, kebab, camel, pascal, spaces, title, upper; anything else keeps it."""
    words = words_of(name).split()
    if style == "snake":
        return "_".join(words)
    if style == "kebab":
        return "-".join(words)
    if style == "camel":
        return words[0] + "".join(w.capitalize() for w in words[1:])
    if style == "pascal":
        return "".join(w.capitalize() for w in words)
    if style == "spaces":
        return " ".join(words)
    if style == "title":
        return " ".join(words).title()
    if style == "upper":
        return "_".join(words).upper()
    return name


STYLES = ["snake"] * 8 + ["kebab"] * 3 + ["camel", "pascal", "pascal", "spaces", "spaces", "title", "upper", "keep", "keep"]
