"""Prompts as token ids: the format's text inside the model's chat template, control tokens from the template alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archroute_edge.conversation import Turn
from archroute_edge.engine import GGUFHeader
from archroute_edge.errors import ModelFileError, PromptFormatError
from archroute_edge.prompts._chat_template import read_chat_template
from archroute_edge.prompts._grammar import Answer
from archroute_edge.prompts._prompt_formats import PromptFormat, to_nfc
from archroute_edge.routes import Route, RouteTable

if TYPE_CHECKING:
    from archroute_edge.engine import LoadedModel

# What tools/convert writes: nfc or none. Other files do not say, and go by their pre-tokenizer.
_NORMALIZER_KEY = "archroute.normalizer"
# Pre-tokenizers whose Hugging Face tokenizer normalises to NFC; llama.cpp itself never does.
_NFC_PRE_TOKENIZERS = ("qwen2",)


@dataclass(frozen=True)
class StaticParts:
    """The tokens that prompts for a table begin with, and how many they end with, whatever the user says.

    A prompt may share a few tokens less, if the assistant begins or a message joins with the JSON around it.
    """

    prefix: tuple[int, ...]
    n_closing: int


class PromptBuilder:
    """Writes prompts for one model in one format.

    Raises:
        ModelFileError: the model carries no chat template.
        PromptFormatError: its chat template cannot carry a prompt.
    """

    def __init__(self, model: LoadedModel, prompt_format: PromptFormat) -> None:
        vocabulary = model.vocabulary
        template = model.chat_template
        if not template:
            raise ModelFileError(f"{model.path}: carries no chat template; convert it again with its tokenizer_config.json")
        self.format = prompt_format
        self._nfc = normalises_to_nfc(model.header)
        self._vocabulary = vocabulary
        specials = {f"{which}_token": _special_text(model, which) for which in ("bos", "eos")}
        try:
            self._frame = read_chat_template(template, **specials)
        except PromptFormatError as exc:
            raise PromptFormatError(f"{model.path}: {exc}") from exc
        # Between two control tokens the text is tokenized as one piece: cutting elsewhere gives other ids.
        control = re.compile("|".join(map(re.escape, vocabulary.control_texts)) or r"(?!)")
        cuts_before = [match.end() for match in control.finditer(self._frame.before)]
        cut_before = cuts_before[-1] if cuts_before else 0
        first_after = control.search(self._frame.after)
        cut_after = first_after.start() if first_after else len(self._frame.after)
        head, self._lead = self._frame.before[:cut_before], self._frame.before[cut_before:]
        self._trail, tail = self._frame.after[:cut_after], self._frame.after[cut_after:]
        self._head = vocabulary.tokenize(head, control_tokens=True)
        if self._head[: len(vocabulary.bos_tokens)] != vocabulary.bos_tokens:
            self._head = vocabulary.bos_tokens + self._head
        self._tail = vocabulary.tokenize(tail, control_tokens=True)

    def text(self, table: RouteTable, turns: Sequence[Turn]) -> str:
        """The exact prompt, control tokens written out."""
        return self._frame.wrap(self._message(table, turns))

    def tokens(self, table: RouteTable, turns: Sequence[Turn]) -> list[int]:
        """The exact prompt as token ids. Text of the routes and turns never becomes a control token."""
        body = self._lead + self._frame.body(self._message(table, turns)) + self._trail
        return [*self._head, *self._vocabulary.tokenize(body), *self._tail]

    def _message(self, table: RouteTable, turns: Sequence[Turn]) -> str:
        if not self._nfc:
            return self.format.render(table, turns)
        # Also before it is written as JSON: in the card's escapes, composed and decomposed text would stay different.
        return to_nfc(self.format.render(_nfc_table(table), [_nfc_turn(turn) for turn in turns]))

    def answers(self, table: RouteTable) -> tuple[Answer, ...]:
        """All replies that are answers for ``table``."""
        return self.format.answers(table, nfc=self._nfc)

    def count_tokens(self, turn: Turn) -> int:
        """Tokens that ``turn`` takes in a prompt, its JSON around it included."""
        text = self.format.write_conversation([_nfc_turn(turn) if self._nfc else turn])
        return len(self._vocabulary.tokenize(to_nfc(text) if self._nfc else text))

    def static_parts(self, table: RouteTable) -> StaticParts:
        """The tokens that all prompts for ``table`` begin with, and the number that they end with.

        Found by comparing two prompts that differ in nothing but the user's words, since token borders do not follow
        the borders of the text's parts.
        """
        one, two = (self.tokens(table, [Turn("user", text)]) for text in ("a", "go on"))
        n_prefix = common_prefix_length(one, two)
        n_closing = common_prefix_length(one[n_prefix:][::-1], two[n_prefix:][::-1])
        return StaticParts(tuple(one[:n_prefix]), n_closing)


def _nfc_turn(turn: Turn) -> Turn:
    return Turn(turn.role, to_nfc(turn.content))


def _nfc_table(table: RouteTable) -> RouteTable:
    if all(to_nfc(text) == text for route in table for text in (route.name, route.description)):
        return table
    return RouteTable(Route(to_nfc(route.name), to_nfc(route.description)) for route in table)


def _special_text(model: LoadedModel, which: str) -> str:
    """The text of the ``bos`` or ``eos`` token that the file names, as chat templates write it; empty if it names none."""
    token = model.header.integer(f"tokenizer.ggml.{which}_token_id")
    # 2^32 - 1 is how "none" is written.
    return "" if token in (None, 0xFFFFFFFF) else model.vocabulary.piece(token).decode("utf-8", "replace")


def normalises_to_nfc(header: GGUFHeader) -> bool:
    """Whether the model's own tokenizer normalises text to NFC, so that prompts for it must be."""
    stated = header.text(_NORMALIZER_KEY)
    return stated == "nfc" if stated else header.text("tokenizer.ggml.pre") in _NFC_PRE_TOKENIZERS


def common_prefix_length(one: Sequence[int], two: Sequence[int]) -> int:
    """How many tokens both sequences begin with."""
    for index, (left, right) in enumerate(zip(one, two, strict=False)):
        if left != right:
            return index
    return min(len(one), len(two))
