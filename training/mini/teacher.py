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
from torch import Tensor

from archroute_edge.engine import EmbeddingEngine, LoadedModel

FILE: Final = Path(__file__).parent / "teacher-Q8_0.gguf"
_KEPT: Final = 50_000


class Teacher:
    """The encoder in one thread; the vectors of texts that were asked for are kept, since requests and routes come again."""

    def __init__(self, file: Path = FILE, max_tokens: int = 128) -> None:
        self._engine = EmbeddingEngine(LoadedModel(file, wanted="encoder"), 1, max_tokens)
        self._known: dict[str, Tensor] = {}

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (N, width) of texts."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        if len(self._known) > _KEPT:
            self._known.clear()
            missing = list(dict.fromkeys(texts))
        if missing:
            found = torch.from_numpy(self._engine.embed([self._engine.encode(text) for text in missing]))
            self._known.update(zip(missing, found, strict=True))
        return torch.stack([self._known[text] for text in texts])
