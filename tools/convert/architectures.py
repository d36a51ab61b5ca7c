"""The particulars of each architecture: names and shapes of its tensors, and its hyperparameters.

A new architecture is one more entry in :data:`ARCHITECTURES`. GGUF names and keys:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; the tensors that llama.cpp expects: its ``src/models/``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from archroute_edge.errors import CheckpointError
from tools.convert.checkpoint import Checkpoint
from tools.convert.safetensors_files import StoredTensor

# Name within a block -> GGUF name within a block, and what its rows and columns are as long as (see `sizes`).
_QWEN_BLOCK: Final = {
    "input_layernorm.weight": ("attn_norm.weight", ("hidden",)),
    "self_attn.q_proj.weight": ("attn_q.weight", ("queries", "hidden")),
    "self_attn.k_proj.weight": ("attn_k.weight", ("keys", "hidden")),
    "self_attn.v_proj.weight": ("attn_v.weight", ("keys", "hidden")),
    "self_attn.o_proj.weight": ("attn_output.weight", ("hidden", "queries")),
    "post_attention_layernorm.weight": ("ffn_norm.weight", ("hidden",)),
    "mlp.gate_proj.weight": ("ffn_gate.weight", ("ffn", "hidden")),
    "mlp.up_proj.weight": ("ffn_up.weight", ("ffn", "hidden")),
    "mlp.down_proj.weight": ("ffn_down.weight", ("hidden", "ffn")),
}
_QKV_BIASES: Final = {
    "self_attn.q_proj.bias": ("attn_q.bias", ("queries",)),
    "self_attn.k_proj.bias": ("attn_k.bias", ("keys",)),
    "self_attn.v_proj.bias": ("attn_v.bias", ("keys",)),
}
_QK_NORMS: Final = {
    "self_attn.q_norm.weight": ("attn_q_norm.weight", ("head",)),
    "self_attn.k_norm.weight": ("attn_k_norm.weight", ("head",)),
}
_BERT_BEFORE: Final = {
    "embeddings.word_embeddings.weight": ("token_embd.weight", ("vocabulary", "hidden")),
    "embeddings.token_type_embeddings.weight": ("token_types.weight", ("types", "hidden")),
    "embeddings.position_embeddings.weight": ("position_embd.weight", ("positions", "hidden")),
    "embeddings.LayerNorm.weight": ("token_embd_norm.weight", ("hidden",)),
    "embeddings.LayerNorm.bias": ("token_embd_norm.bias", ("hidden",)),
}
_BERT_BLOCK: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    f"{name}.{part}": (f"{own}.{part}", axes if part == "weight" else axes[:1])
    for name, own, axes in (
        ("attention.self.query", "attn_q", ("hidden", "hidden")),
        ("attention.self.key", "attn_k", ("hidden", "hidden")),
        ("attention.self.value", "attn_v", ("hidden", "hidden")),
        ("attention.output.dense", "attn_output", ("hidden", "hidden")),
        ("attention.output.LayerNorm", "attn_output_norm", ("hidden",)),
        ("intermediate.dense", "ffn_up", ("ffn", "hidden")),
        ("output.dense", "ffn_down", ("hidden", "ffn")),
        ("output.LayerNorm", "layer_output_norm", ("hidden",)),
    )
    for part in ("weight", "bias")
}
MAX_BLOCKS: Final = 512
"""``LLAMA_MAX_LAYERS``."""
_IGNORED_SUFFIXES: Final = (".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias")
"""Buffers that old checkpoints carry; llama.cpp computes them itself."""


Place = tuple[str, tuple[str, ...]]
"""A name in the GGUF, and what rows and columns are as long as (see :func:`sizes`)."""
_CAUSAL_BEFORE: Final[dict[str, Place]] = {"model.embed_tokens.weight": ("token_embd.weight", ("vocabulary", "hidden"))}
_CAUSAL_AFTER: Final[dict[str, Place]] = {"model.norm.weight": ("output_norm.weight", ("hidden",))}


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    ``before`` maps the name of a tensor to its GGUF name and to its shape; ``block`` does so within ``blocks`` N ``.`` and
    ``blk.N.``; ``after`` are those behind the blocks. ``unused`` are tensors of the checkpoint that llama.cpp's graph has
    no place for. ``fixed`` lists the settings of config.json that the graph has built in, with the one value it computes.
    ``encodes`` tells sentence encoders, whose attention sees the whole text, from causal language models.
    """

    name: str
    block: dict[str, Place]
    fixed: dict[str, object]
    before: dict[str, Place] = field(default_factory=lambda: _CAUSAL_BEFORE)
    after: dict[str, Place] = field(default_factory=lambda: _CAUSAL_AFTER)
    blocks: str = "model.layers."
    unused: tuple[str, ...] = ()
    needs_head_dim: bool = False
    encodes: bool = False


ARCHITECTURES: Final[dict[str, Architecture]] = {
    "Qwen2ForCausalLM": Architecture(
        name="qwen2",
        block=_QWEN_BLOCK | _QKV_BIASES,
        fixed={"hidden_act": "silu", "use_sliding_window": False},
    ),
    "Qwen3ForCausalLM": Architecture(
        name="qwen3",
        block=_QWEN_BLOCK | _QK_NORMS,
        needs_head_dim=True,
        fixed={"hidden_act": "silu", "use_sliding_window": False, "attention_bias": False},
    ),
    "BertModel": Architecture(
        name="bert",
        block=_BERT_BLOCK,
        fixed={
            "hidden_act": "gelu",
            "position_embedding_type": "absolute",
            "is_decoder": False,
            "add_cross_attention": False,
        },
        before=_BERT_BEFORE,
        after={},
        blocks="encoder.layer.",
        # The position numbers are a buffer; the pooler is a part of pre-training that no sentence vector passes through.
        unused=("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"),
        encodes=True,
    ),
}
"""By the name in ``architectures`` of config.json."""


@dataclass(frozen=True)
class PlacedTensor:
    """A tensor of the checkpoint with the name it gets in the GGUF."""

    name: str
    source: StoredTensor


def architecture_of(checkpoint: Checkpoint) -> Architecture:
    """The architecture that config.json names.

    Raises:
        CheckpointError: none, one that is not in the table, or a setting that llama.cpp does not compute.
    """
    names = checkpoint.config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise CheckpointError(
            f"{checkpoint.config.path}: architecture {name!r} cannot be converted; {', '.join(ARCHITECTURES)} can"
        )
    if checkpoint.config.get("quantization_config"):
        raise CheckpointError(f"{checkpoint.config.path}: the weights are quantized already; convert the original ones")
    architecture = ARCHITECTURES[name]
    for key, value in architecture.fixed.items():
        found = checkpoint.config.get(key, value)
        if found != value:
            raise CheckpointError(
                f"{checkpoint.config.path}: {key} is {found!r}; llama.cpp's {architecture.name} computes {value!r} only"
            )
    return architecture


def sizes(checkpoint: Checkpoint, architecture: Architecture) -> dict[str, int]:
    """The lengths that tensor shapes are made of, from config.json.

    Raises:
        CheckpointError: a size is missing, or they do not go together.
    """
    hidden, heads = checkpoint.config.integer("hidden_size"), checkpoint.config.integer("num_attention_heads")
    kv_heads = heads if architecture.encodes else checkpoint.config.integer("num_key_value_heads")
    if heads % kv_heads:
        raise CheckpointError(f"{checkpoint.config.path}: {heads} heads cannot share {kv_heads} key/value heads")
    if architecture.needs_head_dim or checkpoint.config.get("head_dim") is not None:
        head = checkpoint.config.integer("head_dim")
    elif hidden % heads:
        raise CheckpointError(f"{checkpoint.config.path}: hidden_size {hidden} is no multiple of {heads} heads")
    else:
        head = hidden // heads
    if head % 2 and not architecture.encodes:
        raise CheckpointError(f"{checkpoint.config.path}: heads are {head} wide; rotary positions need an even width")
    lengths = {
        "hidden": hidden,
        "ffn": checkpoint.config.integer("intermediate_size"),
        "vocabulary": checkpoint.config.integer("vocab_size"),
        "head": head,
        "queries": heads * head,
        "keys": kv_heads * head,
    }
    if architecture.encodes:
        lengths["positions"] = checkpoint.config.integer("max_position_embeddings")
        lengths["types"] = checkpoint.config.integer("type_vocab_size")
    return lengths


def place_tensors(checkpoint: Checkpoint, architecture: Architecture) -> list[PlacedTensor]:
    """Every tensor of the model with its GGUF name, in the order they are written: embeddings, blocks, the rest.

    Raises:
        CheckpointError: a tensor is missing, unknown, or of another shape than config.json implies.
    """
    lengths = sizes(checkpoint, architecture)
    expected = dict(_expected(checkpoint, architecture))
    placed = []
    for source_name, (name, axes) in expected.items():
        source = checkpoint.tensors.get(source_name)
        shape = tuple(lengths[axis] for axis in axes)
        if source is None:
            raise CheckpointError(f"{checkpoint.folder}: tensor {source_name!r} is missing{_head_hint(source_name)}")
        if source.shape != shape:
            raise CheckpointError(
                f"{source.path}: tensor {source_name!r} has shape {list(source.shape)}; config.json implies {list(shape)}"
            )
        if source.dtype not in ("F32", "F16", "BF16"):
            raise CheckpointError(f"{source.path}: tensor {source_name!r} is {source.dtype}; F32, F16 and BF16 can be read")
        placed.append(PlacedTensor(name, source))
    for source_name in checkpoint.tensors:
        ignored = source_name in architecture.unused or source_name.endswith(_IGNORED_SUFFIXES)
        if source_name not in expected and not ignored:
            raise CheckpointError(
                f"{checkpoint.tensors[source_name].path}: tensor {source_name!r} is none that {architecture.name} has"
            )
    _check_tied_head(checkpoint)
    return placed


def _check_tied_head(checkpoint: Checkpoint) -> None:
    """If a head is stored though config.json calls it tied, transformers uses the embedding and llama.cpp the head."""
    head = checkpoint.tensors.get("lm_head.weight")
    if head is None or not checkpoint.config.get("tie_word_embeddings", False):
        return
    embedding = checkpoint.tensors["model.embed_tokens.weight"]
    pieces = zip(head.read(), embedding.read(), strict=True)
    if head.dtype != embedding.dtype or any(one != other for one, other in pieces):
        raise CheckpointError(
            f"{head.path}: lm_head.weight differs from the embedding, but config.json says that they are tied; "
            "remove one of the two claims"
        )


def _expected(checkpoint: Checkpoint, architecture: Architecture) -> Iterator[tuple[str, Place]]:
    n_blocks = checkpoint.config.integer("num_hidden_layers")
    if n_blocks > MAX_BLOCKS:
        raise CheckpointError(f"{checkpoint.config.path}: {n_blocks} layers; llama.cpp takes {MAX_BLOCKS} at most")
    yield from architecture.before.items()
    for block in range(n_blocks):
        for source_name, (name, axes) in architecture.block.items():
            yield f"{architecture.blocks}{block}.{source_name}", (f"blk.{block}.{name}", axes)
    yield from architecture.after.items()
    # A tied model may still store its head; llama.cpp uses it if it is there, else the embedding.
    tied = checkpoint.config.get("tie_word_embeddings", False) and "lm_head.weight" not in checkpoint.tensors
    if not architecture.encodes and not tied:
        yield "lm_head.weight", ("output.weight", ("vocabulary", "hidden"))


def _head_hint(source_name: str) -> str:
    if source_name != "lm_head.weight":
        return ""
    return " and config.json does not say that the head is tied; is tie_word_embeddings missing there?"
