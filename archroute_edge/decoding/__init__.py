"""Decoding an answer with a language model: the decoders, scores of all answers, the KV cache and its saved states.

The fast decoder gives the answer of llama.cpp's grammar sampler, usually from one evaluation. The KV cache keeps a resident
prefix for each route table and reuses the longest common prefix of a prompt.

Used by: ``deciders`` and ``cli``. Other rooms import only the names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.decoding._decoders import AnswerSet, Decoded, Decoder, GrammarDecoder, Path, SpeculativeDecoder
    from archroute_edge.decoding._kv_cache import KVCache
    from archroute_edge.decoding._saved_states import SavedStates, folder_problem, inspect_folder
    from archroute_edge.decoding._scoring import AnswerScorer
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_decoders": "AnswerSet Decoded Decoder GrammarDecoder Path SpeculativeDecoder",
            "_kv_cache": "KVCache",
            "_saved_states": "SavedStates folder_problem inspect_folder",
            "_scoring": "AnswerScorer",
        },
    )
