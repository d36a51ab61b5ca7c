"""A random-weights checkpoint of exactly Arch-Router-1.5B's layout, to measure conversion at the real size.

    python -m tools.measure.random_checkpoint --vocabulary qwen2-vocab.gguf -o CHECKPOINT

Writes one float16 safetensors file of 3.09 GB with the sizes of its config.json. All of it is held in memory, as float32 too,
while it is made.
"""

from __future__ import annotations

from pathlib import Path

import click

from tools.convert.upstream_cases import qwen2_tokenizer
from tools.fixtures.checkpoints import Shape, write_checkpoint

_N_VOCAB = 151936


@click.command()
@click.option("--vocabulary", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write.")
def main(vocabulary: Path, output: Path) -> None:
    """Write the checkpoint with the tokenizer of a GGUF that holds Qwen2's vocabulary."""
    tokenizer = qwen2_tokenizer(vocabulary)
    shape = Shape(
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        vocab_padding=_N_VOCAB - tokenizer.get_vocab_size(with_added_tokens=True),
        dtype="float16",
        # Larger ones make so chaotic a network that any rounding changes its answers, and it would not pass as verified.
        weight_scale=0.02,
        extra_config={"max_position_embeddings": 32768},
    )
    written = write_checkpoint(output, shape, tokenizer=tokenizer)
    click.echo(f"{output}  {(output / 'model.safetensors').stat().st_size / 1e9:.2f} GB, {len(written.weights)} tensors")


if __name__ == "__main__":
    main()
