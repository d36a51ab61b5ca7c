"""The teacher in PyTorch is the encoder that its file has in llama.cpp."""

from __future__ import annotations

import numpy as np
import torch

from archroute_edge.engine import EmbeddingEngine, LoadedModel
from training.mini.teacher import FILE, Teacher

TEXTS = [
    "fix the error in my code", "my card was eaten by the cash machine", "bank: everything about accounts", "what's up?",
    "earlier: book a table for four. later: and one for Sunday, too", "tax " * 90,
]  # fmt: skip


def test_it_has_the_vectors_of_its_file_in_llama_cpp() -> None:
    engine = EmbeddingEngine(LoadedModel(FILE, wanted="encoder"), 1, 128)
    wanted = engine.embed([engine.encode(text) for text in TEXTS])
    found = Teacher(max_tokens=128).vectors(TEXTS)
    assert torch.allclose(found.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-5)
    # bfloat16 rounds the one, 8-bit weights and activations the other.
    assert np.einsum("nd,nd->n", found.numpy(), wanted).min() > 0.998


def test_a_text_that_comes_again_has_the_same_vector() -> None:
    teacher = Teacher(max_tokens=128)
    first = teacher.vectors(TEXTS)
    again = teacher.vectors([TEXTS[2], "another text", TEXTS[0], TEXTS[2]])
    assert torch.equal(again[[0, 2, 3]], first[[2, 0, 2]])
