"""How names and descriptions of routes are worded: their words, which words belong together, which say little.

Rules of thumb for English; text in other scripts is compared word by word, CJK text character by character.
"""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FUNCTION_WORDS = _set(
    "a about across an and any are as at based be between both but by can could do does etc for from has have how if "
    "in into is it its like more most not of off on or other our out over own per provided related s should so some "
    "such than that the their them then there these they this those through to under up use used user users using "
    "various via was we what when where which while who why will with within without would you your"
)
_SAYS_LITTLE = _set(
    "all anything basic case cases common content default everything general generic handle help input kind kinds "
    "misc miscellaneous need needs new normal prompt prompts query queries question questions request requests route "
    "simple something stuff task tasks thing things type types work"
)
_BROAD = _set(
    "all any anything basic broad casual chat chitchat conversation conversational conversations default everyday "
    "everything fallback general generic misc miscellaneous overall smalltalk whatever"
)
_VERBS = _set(
    "add analyse analyze ask assist brainstorm calculate choose classify compare compose convert create debug describe "
    "detect diagnose edit evaluate explain extract find fix generate get give handle help identify implement improve "
    "integrate learn make modify optimise optimize paraphrase perform predict proofread provide recommend refactor "
    "remove rephrase resolve rewrite send solve suggest summarise summarize tell transform translate troubleshoot "
    "understand verify write"
)
_AFTER_A_NOUN = _set("with for on of in to from about desk center centre")
_INSTRUCTION = re.compile(
    r"(if|when|whenever|(this|the) route|(use|choose|pick|select) (this|it|for|when|if|the)"
    r"|(the )?users? (asks?|wants?|needs?|is|are|has|have|requests?|would))\b"
)
_ENDINGS = ("izations", "isations", "ization", "isation", "ations", "ation", "itions", "ition", "ments", "ment")
_SHORT_ENDINGS = ("ings", "ing", "ions", "ion", "ers", "ors", "ies", "er", "or", "ed", "es", "ly", "al", "s", "e", "y")
_KIN = tuple(
    _set(group)
    for group in (
        "optim improv effici perform speed fast tun scal",
        "bug error debug fix fault defect fail crash troubleshoot",
        "help assist support guid advic aid",
        "cod program softwar develop script engineer function",
        "writ draft compos generat creat author",
        "explain understand describ clarif educ teach tutor learn",
        "math calculat equat arithmet algebr number geometr",
        "review critiqu feedback evaluat assess",
        "chat convers talk smalltalk chitchat banter dialog",
        "summar condens shorten digest recap",
        "travel trip flight hotel vacat journey itinerar",
        "money financ bank invest budget payment bill account",
        "data databas sql tabl spreadsheet statist",
        "health medic doctor symptom",
        "law legal contract",
        "question answer qa faq",
        "image pictur photo drawing illustrat",
        "plan schedul organi calendar",
        "search find lookup retriev",
        "cook recip food meal",
    )
)


def words(text: str) -> list[str]:
    """The words of a text in order, case-folded; ``camelCase`` and ``snake_case`` are taken apart."""
    found: list[str] = []
    for match in _WORD.finditer(_CAMEL.sub(" ", unicodedata.normalize("NFKC", text))):
        word = match.group().casefold()
        found.extend(word if _CJK.search(word) else [word])
    return found


def content_words(text: str) -> list[str]:
    """The words that carry meaning, in order."""
    return [word for word in words(text) if word not in _FUNCTION_WORDS]


def telling_words(text: str) -> list[str]:
    """The content words that tell one route from another."""
    return [word for word in content_words(text) if word not in _SAYS_LITTLE]


def stem(word: str) -> str:
    """A word without its ending, so that forms of one word are equal; good enough to compare, not to print."""
    for ending in (*_ENDINGS, *_SHORT_ENDINGS):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def stems(text: str) -> frozenset[str]:
    """The stems of the content words."""
    return frozenset(stem(word) for word in content_words(text))


def agree(name: str, description: str) -> bool:
    """Whether a name shares a word, a stem, an abbreviation or a near meaning with a description.

    True as well where the two cannot be compared: no words, words in different scripts, or a name such as ``general``
    that stands for whatever is left.
    """
    in_name, in_description = (content_words(text) or words(text) for text in (name, description))
    if not set(in_name) - _BROAD - _SAYS_LITTLE or not in_description or _is_ascii(in_name) != _is_ascii(in_description):
        return True
    initials = "".join(word[0] for word in content_words(description))
    for word in in_name:
        if 2 <= len(word) <= 5 and word in initials:
            return True
        if any(_related(word, other) for other in in_description):
            return True
    return False


def _is_ascii(texts: list[str]) -> bool:
    return all(text.isascii() for text in texts)


def _related(one: str, other: str) -> bool:
    first, second = sorted((stem(one), stem(other)), key=len)
    if first == second or (len(first) >= 3 and second.startswith(first)):
        return True
    if len(first) >= 5 and first[:5] == second[:5]:
        return True
    return any(_in_group(first, group) and _in_group(second, group) for group in _KIN)


def _in_group(word: str, group: frozenset[str]) -> bool:
    return any(word == member or (len(member) >= 4 and word.startswith(member)) for member in group)


def is_broad(text: str) -> bool:
    """Whether a name or description speaks of a whole field rather than one kind of request."""
    return not _BROAD.isdisjoint(words(text))


def leading_verb(text: str) -> str | None:
    """The verb that a text starts with, as in "Write ..." or "Translates ..."; None for nouns and "Writing ..."."""
    first, second, *_ = [*words(text), "", ""]
    if not second or second in _AFTER_A_NOUN:
        return None
    bases = {first, first.removesuffix("s"), first.removesuffix("es")}
    if first.endswith("ies"):
        bases.add(first[:-3] + "y")
    return first if bases & _VERBS else None


def speaks_to_the_model(text: str) -> bool:
    """Whether a description gives an instruction ("use this when the user ...") in place of naming a subject."""
    return _INSTRUCTION.match(" ".join(words(text)[:5])) is not None
