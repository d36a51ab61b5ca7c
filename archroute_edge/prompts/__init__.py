"""Text in and out of a language model: prompt formats, the chat template, and the grammar of the answers.

It renders routes and a conversation as the prompt a model was trained on, and reads a prompt that a gateway rendered back
into both.

Used by: ``models``, ``decoding``, ``deciders``, ``quality``, ``routing``, ``server`` and ``cli``. Other rooms import only the
names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.prompts._grammar import Answer, common_prefix, to_gbnf
    from archroute_edge.prompts._prompt import PromptBuilder, StaticParts, common_prefix_length, normalises_to_nfc
    from archroute_edge.prompts._prompt_formats import CARD, PROMPT_FORMATS, PromptFormat, prompt_format
    from archroute_edge.prompts._ready_prompts import ReadyPrompt, recognise
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_grammar": "Answer common_prefix to_gbnf",
            "_prompt": "PromptBuilder StaticParts common_prefix_length normalises_to_nfc",
            "_prompt_formats": "CARD PROMPT_FORMATS PromptFormat prompt_format",
            "_ready_prompts": "ReadyPrompt recognise",
        },
    )
