"""The ``qwen2.*``, ``qwen3.*`` and ``bert.*`` keys of a GGUF, from config.json."""

from __future__ import annotations

import gguf

from archroute_edge.errors import CheckpointError
from tools.convert.architectures import Architecture, sizes
from tools.convert.checkpoint import Checkpoint
from tools.convert.json_files import Settings
from tools.convert.sentence_modules import read_pooling


def add_hyperparameters(writer: gguf.GGUFWriter, checkpoint: Checkpoint, architecture: Architecture) -> None:
    """Write sizes, norm and rotary settings, or an encoder's pooling, under the architecture's prefix (the writer's).

    Raises:
        CheckpointError: one is missing, or the rotary scaling or the pooling is of an unknown kind.
    """
    lengths = sizes(checkpoint, architecture)
    writer.add_block_count(checkpoint.config.integer("num_hidden_layers"))
    writer.add_context_length(checkpoint.config.integer("max_position_embeddings"))
    writer.add_embedding_length(lengths["hidden"])
    writer.add_feed_forward_length(lengths["ffn"])
    writer.add_head_count(checkpoint.config.integer("num_attention_heads"))
    if architecture.encodes:
        writer.add_layer_norm_eps(checkpoint.config.number("layer_norm_eps"))
        writer.add_causal_attention(False)
        pooling = read_pooling(checkpoint.folder)
        if pooling is not None:
            writer.add_pooling_type(pooling)
        return
    writer.add_head_count_kv(checkpoint.config.integer("num_key_value_heads"))
    writer.add_layer_norm_rms_eps(checkpoint.config.number("rms_norm_eps"))
    if architecture.needs_head_dim or checkpoint.config.get("head_dim") is not None:
        writer.add_key_length(lengths["head"])
        writer.add_value_length(lengths["head"])
    _add_rope(writer, checkpoint)


def _add_rope(writer: gguf.GGUFWriter, checkpoint: Checkpoint) -> None:
    # transformers 4 writes rope_theta and rope_scaling, transformers 5 both in rope_parameters.
    config = checkpoint.config
    own = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(own, dict):
        raise CheckpointError(f"{config.path}: the rotary settings {own!r} are no object")
    inherited = {key: config.get(key) for key in ("rope_theta", "original_max_position_embeddings")}
    rope = Settings(config.path, {**inherited, **own})
    writer.add_rope_freq_base(rope.number("rope_theta"))
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope.number("factor"))
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope.number("factor"))
        writer.add_rope_scaling_orig_ctx_len(rope.integer("original_max_position_embeddings"))
        _add_yarn_details(writer, rope)
    else:
        raise CheckpointError(f"{config.path}: rotary scaling {kind!r} cannot be converted; linear and yarn can")


def _add_yarn_details(writer: gguf.GGUFWriter, rope: Settings) -> None:
    # Spelt out, since older versions of the gguf package do not know these keys.
    for keys, name in (
        (("extrapolation_factor",), "yarn_ext_factor"),
        (("attention_factor", "attn_factor"), "yarn_attn_factor"),
        (("beta_fast",), "yarn_beta_fast"),
        (("beta_slow",), "yarn_beta_slow"),
    ):
        key = next((key for key in keys if rope.get(key) is not None), None)
        if key is not None:
            writer.add_float32(f"{writer.arch}.rope.scaling.{name}", rope.number(key))
