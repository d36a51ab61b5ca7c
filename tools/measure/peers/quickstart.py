"""The quickstart of Arch-Router's model card: ``transformers`` on the CPU, with random weights of a GGUF's shape.

https://huggingface.co/katanemo/Arch-Router-1.5B
"""

from __future__ import annotations

import time
from pathlib import Path

# Before anything of ours, which sets a variable that OpenMP reads when torch loads it.
import torch
import transformers

# isort: split
import gguf

from tools.convert.upstream_cases import qwen2_tokenizer
from tools.measure.peers.question import Question, Reply

_N_TOKENS = 8


class Quickstart:
    """``AutoModelForCausalLM.generate`` with the chat template, held to eight new tokens; no prompt is kept between calls.

    Args:
        model: a GGUF of Qwen2's architecture, whose sizes, vocabulary and chat template are taken.
        threads: threads for evaluation.
        dtype: ``bfloat16`` or ``float32``.
    """

    def __init__(self, model: str, threads: int, dtype: str) -> None:
        torch.set_num_threads(threads)
        fields = gguf.GGUFReader(model).fields
        architecture = fields["general.architecture"].contents()
        if architecture != "qwen2":
            raise ValueError(f"{model}: a model of {architecture}; the quickstart is measured on the shape of a qwen2 one")
        tokenizer = qwen2_tokenizer(Path(model))
        self._tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")
        self._tokenizer.chat_template = fields["tokenizer.chat_template"].contents()
        sizes = {
            key: fields[f"qwen2.{name}"].contents()
            for key, name in (
                ("hidden_size", "embedding_length"),
                ("intermediate_size", "feed_forward_length"),
                ("num_hidden_layers", "block_count"),
                ("num_attention_heads", "attention.head_count"),
                ("num_key_value_heads", "attention.head_count_kv"),
                ("max_position_embeddings", "context_length"),
            )
        }
        n_vocab = max(len(fields["tokenizer.ggml.tokens"].data), tokenizer.get_vocab_size(with_added_tokens=True))
        end = tokenizer.token_to_id("<|im_end|>")
        config = transformers.Qwen2Config(
            vocab_size=n_vocab, tie_word_embeddings=True, eos_token_id=end, pad_token_id=end, bos_token_id=None, **sizes
        )
        self._model = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()

    def decide(self, question: Question) -> Reply:
        """One decision as the model card makes it: template, generation, text. The answer means nothing."""
        started = time.perf_counter()
        inputs = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": question.body}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        generated = self._model.generate(**inputs, min_new_tokens=_N_TOKENS, max_new_tokens=_N_TOKENS, do_sample=False)
        n_prompt = inputs["input_ids"].shape[1]
        self._tokenizer.batch_decode(generated[:, n_prompt:], skip_special_tokens=True)
        seconds = time.perf_counter() - started
        return Reply(seconds, None, n_prompt, 0, generated.shape[1] - 1)
