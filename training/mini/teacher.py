"""The encoder whose sense of English the new one takes over: the English-only `mini` that came before it.

Its vectors say how near any two texts of a step are to one another, far more than the label of each. The new encoder has a
space of its own, so the distributions of nearness are compared instead of the vectors (relational distillation, Park et al.
2019, "Relational Knowledge Distillation"; as distributions in Tejankar et al. 2021, "ISD"). The file was trained by an earlier
version of this folder, from all-MiniLM-L6-v2.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from gguf import GGUFReader
from torch import Tensor

from training.data_parallel import has_bfloat16
from training.mini import published
from training.mini.embedding import Encoder
from training.mini.gguf_weights import read_weights

FILE: Final = Path(__file__).parent / "teacher-Q8_0.gguf"
_KEPT: Final = 50_000


class Teacher:
    """The encoder in PyTorch. With bfloat16 that takes a fifth of the time that llama.cpp takes.

    The vectors of texts that were asked for are kept, since requests and routes come again.
    """

    def __init__(self, max_tokens: int) -> None:
        base = published.fetch()
        self._encoder = Encoder(base)
        self._encoder.model.load_state_dict(read_weights(GGUFReader(FILE), base), strict=False)
        self._max_tokens = max_tokens
        self._known: dict[str, Tensor] = {}

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (N, width) of texts."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        if len(self._known) > _KEPT:
            self._known.clear()
            missing = list(dict.fromkeys(texts))
        if missing:
            with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
                found = self._encoder.embed(missing, self._max_tokens)
            self._known.update(zip(missing, found, strict=True))
        return torch.stack([self._known[text] for text in texts])
