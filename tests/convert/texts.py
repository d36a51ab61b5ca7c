"""Texts that make tokenizers disagree: every script, code, emoji, control characters, runs of whitespace."""

from __future__ import annotations

import random
import unicodedata

SAMPLES = (
    "fix this module 'torch.utils._pytree' has no attribute 'register_pytree_node'. did you mean: '_register'?",
    "Größe naïve cafe\u0301 re\u0301sume\u0301 Ångström \u212b \u2126 façade straße ŉ ﬁ ﬀ İstanbul ẞ ǆ",
    "нещо на Български ελληνικά հայերեն ქართული עברית العربية فارسی اردو हिन्दी বাংলা தமிழ் తెలుగు ಕನ್ನಡ മലയാളം සිංහල",
    "ไทย ລາວ မြန်မာ ខ្មែរ བོད་ 中文 日本語 ｶﾞｷﾞ 한국어 \u1112\u1161\u11ab ᠮᠣᠩᠭᠣᠯ ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ አማርኛ ⴰⵎⴰⵣⵉⵖ ߒߞߏ 𐎀𐎁 𝔄𝔅 𠀀𠀁",
    'def f(x: int) -> str:\n\treturn f"{x!r:>10}"  # TODO\n\n\n    if x != 0x1F and y >= 1e-9:\r\n        pass\r\n',
    "SELECT * FROM t WHERE a='b' AND c IN (1,22,333,4444); -- comment\n<div class=\"x\">&nbsp;</div> $HOME/.config\\n",
    "👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ❤️ 1️⃣ ☺︎ 🚀🚀🚀 ✅ ∑∫√≠ ½ ² Ⅷ ٣٤٥ ४५ ５６ 1234567890 3.14159 1,000,000",
    "  leading,   inner    and trailing   \n\n\n \t \t\t \n  \n\u00a0nbsp \u2003em"
    "\u3000ideographic \u200bzero \ufeffbom \u2028line",
    "\x00\x01\x02\x07\x08\x0b\x0c\x0e\x1b[31mred\x1b[0m\x7f\x80\x9f\xad",
    "I've he's THEY'LL we'Re 'twas don’t it’s 'D 'm'S's \"quoted\" “curly” «guillemets» …—– `code` ~~~",
    '{"route": "bug_fixing"}]\n\n{"a": [1, 2, {"b": null}]}"}\n',
    "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n<tool_call>{}</tool_call><|fim_prefix|><|endoftext|>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ==============================\n" + " " * 70 + "x",
    "",
    " ",
    "\n",
)


def texts(count: int, seed: int = 0) -> list[str]:
    """The samples, and random mixtures of their pieces with characters from the whole of Unicode, ``count`` in all."""
    source = random.Random(seed)
    result = list(SAMPLES)
    while len(result) < count:
        result.append("".join(_piece(source) for _ in range(source.randint(1, 12))))
    return result


def is_settled(text: str) -> bool:
    """Whether all tables of Unicode, old and new, agree about its characters, but for pictures and letters."""
    old, new = unicodedata.ucd_3_2_0.category, unicodedata.category
    return all(old(character) == new(character) or new(character) in ("So", "Lo") for character in text)


def _piece(source: random.Random) -> str:
    kind = source.random()
    if kind < 0.4:
        sample = source.choice(SAMPLES)
        start = source.randint(0, len(sample))
        return sample[start : start + source.randint(1, 9)]
    if kind < 0.5:
        return source.choice(" \n\t\r") * source.randint(1, 9)
    if kind < 0.6:
        return str(source.randint(0, 10 ** source.randint(0, 12)))
    if kind < 0.7:
        return "e\u0301" * source.randint(1, 3)
    if kind < 0.85:
        return "".join(chr(source.randint(0x21, 0x2FF)) for _ in range(source.randint(1, 6)))
    return "".join(_assigned(source) for _ in range(source.randint(1, 6)))


def _assigned(source: random.Random) -> str:
    while True:
        character = chr(source.choice((source.randint(0, 0xFFFF), source.randint(0x10000, 0x1FFFF))))
        if unicodedata.category(character) not in ("Cn", "Cs", "Co"):
            return character
