"""A random-weights GGUF of a Qwen2 model's shape, to measure speed and exactness without real weights.

    python -m tools.measure.random_model --vocabulary qwen2-vocab.gguf -o random-1.5B-Q4_0.gguf

Prefill costs the same as with real weights of that shape; answers mean nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import click
import gguf
import numpy as np
import numpy.typing as npt

from archroute_edge.quantize import quantize


@dataclass(frozen=True)
class Shape:
    """Hyperparameters of a Qwen2 model."""

    n_embd: int
    n_ff: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    n_ctx_train: int = 32768


SHAPES = {
    "1.5B": Shape(1536, 8960, 28, 12, 2),
    "small": Shape(256, 512, 2, 4, 2),
}

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# What Qwen2.5's tokenizer_config.json adds from id 151646 on, which the Qwen2 vocabulary file lacks.
_ADDED_CONTROL = tuple(
    f"<|{name}|>"
    for name in (
        *(f"{what}_{end}" for what in ("object_ref", "box", "quad", "vision") for end in ("start", "end")),
        *(f"{what}_pad" for what in ("vision", "image", "video")),
    )
)
_ADDED_TEXT = (
    *("<tool_call>", "</tool_call>"),
    *(f"<|{name}|>" for name in ("fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "repo_name", "file_sep")),
)
_FIRST_ADDED = 151646
_N_VOCAB = 151936


@dataclass(frozen=True)
class VocabularyEntries:
    """Tokens with their GGUF types, and merges, as ``tokenizer.ggml.*`` holds them."""

    tokens: list[bytes]
    types: list[int]
    merges: list[str]


def qwen25_vocabulary(path: Path) -> VocabularyEntries:
    """Qwen2.5's vocabulary, rebuilt from llama.cpp's Qwen2 vocabulary file (151,936 entries)."""
    reader = gguf.GGUFReader(path)
    field = reader.fields["tokenizer.ggml.tokens"]
    tokens = [bytes(field.parts[index]) for index in field.data][:_FIRST_ADDED]
    types = [int(gguf.TokenType.NORMAL)] * 151643 + [int(gguf.TokenType.CONTROL)] * 3
    for text in _ADDED_CONTROL:
        tokens.append(text.encode())
        types.append(int(gguf.TokenType.CONTROL))
    for text in _ADDED_TEXT:
        tokens.append(text.encode())
        types.append(int(gguf.TokenType.USER_DEFINED))
    for number in range(len(tokens), _N_VOCAB):
        tokens.append(f"[PAD{number}]".encode())
        types.append(int(gguf.TokenType.UNUSED))
    merges = reader.fields["tokenizer.ggml.merges"]
    return VocabularyEntries(tokens, types, [bytes(merges.parts[index]).decode() for index in merges.data])


def write_random_model(
    path: Path,
    shape: Shape,
    vocabulary: VocabularyEntries,
    *,
    seed: int = 0,
    deviation: float = 0.02,
    dtype: npt.DTypeLike = np.float16,
) -> None:
    """Write a GGUF of ``shape`` with normal weights (F16 or F32; norms and biases always F32)."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("random weights")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if dtype == np.float16 else gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(shape.n_ctx_train)
    writer.add_embedding_length(shape.n_embd)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_block_count(shape.n_layers)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    by_text = {token: number for number, token in enumerate(vocabulary.tokens)}
    writer.add_bos_token_id(by_text[b"<|endoftext|>"])
    writer.add_eos_token_id(by_text[b"<|im_end|>"])
    writer.add_pad_token_id(by_text[b"<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)

    def matrix(rows: int, columns: int) -> npt.NDArray[np.generic]:
        # Drawn in blocks: a whole embedding in float64 would need gigabytes.
        out = np.empty((rows, columns), dtype)
        for start in range(0, rows, 4096):
            block = random.standard_normal((min(4096, rows - start), columns), np.float32)
            out[start : start + len(block)] = block * np.float32(deviation)
        return out

    width, kv_width = shape.n_embd, shape.n_embd // shape.n_heads * shape.n_kv_heads
    writer.add_tensor("token_embd.weight", matrix(len(vocabulary.tokens), width))
    for layer in range(shape.n_layers):
        block = f"blk.{layer}."
        for name, rows, columns in (
            ("attn_q", width, width), ("attn_k", kv_width, width), ("attn_v", kv_width, width),
            ("attn_output", width, width), ("ffn_gate", shape.n_ff, width), ("ffn_up", shape.n_ff, width),
            ("ffn_down", width, shape.n_ff),
        ):  # fmt: skip
            writer.add_tensor(f"{block}{name}.weight", matrix(rows, columns))
        for name, rows in (("attn_q", width), ("attn_k", kv_width), ("attn_v", kv_width)):
            writer.add_tensor(f"{block}{name}.bias", random.standard_normal(rows, np.float32) * np.float32(deviation))
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{name}.weight", np.ones(width, np.float32))
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@click.command()
@click.option("--vocabulary", type=click.Path(exists=True, path_type=Path), required=True, help="Qwen2 vocabulary GGUF.")
@click.option("--shape", type=click.Choice(list(SHAPES)), default="1.5B", show_default=True, help="The model's shape.")
@click.option("--level", default="Q4_0", show_default=True, help="Quantization level, F16 or F32.")
@click.option("--layers", type=click.IntRange(min=1), default=None, help="Layers, where not the shape's own.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random weights.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Where to write the GGUF.")
def main(vocabulary: Path, shape: str, level: str, layers: int | None, seed: int, output: Path) -> None:
    """Write a random-weights GGUF with Qwen2.5's vocabulary."""
    chosen = SHAPES[shape] if layers is None else dataclasses.replace(SHAPES[shape], n_layers=layers)
    entries = qwen25_vocabulary(vocabulary)
    if level in ("F16", "F32"):
        write_random_model(output, chosen, entries, seed=seed, dtype=np.float16 if level == "F16" else np.float32)
        return
    source = output.with_suffix(".source.partial")
    try:
        write_random_model(source, chosen, entries, seed=seed)
        quantize(source, output, level)
    finally:
        source.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
