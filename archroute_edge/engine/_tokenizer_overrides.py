"""What keeps llama.cpp from making the tokenizer of an encoder, which takes longer than all the rest of its load."""

from __future__ import annotations

from typing import Any


def without_tokenizer(binding: Any, architecture: str, n_tokens: int) -> Any:
    """Overrides for a model's parameters. What its tokenizers assume of the vocabulary does not matter then, either.

    Args:
        binding: llama.cpp's functions and structures.
        architecture: of the model.
        n_tokens: of its vocabulary.
    """
    overrides: Any = (binding.llama_model_kv_override * 3)()
    overrides[0].tag, overrides[0].key = binding.LLAMA_KV_OVERRIDE_TYPE_STR, b"tokenizer.ggml.model"
    overrides[0].value.val_str = b"none"
    overrides[1].tag, overrides[1].key = binding.LLAMA_KV_OVERRIDE_TYPE_INT, f"{architecture}.vocab_size".encode()
    overrides[1].value.val_i64 = n_tokens
    # An empty key ends the list.
    return overrides
