"""Compare a GGUF's sentence vectors with those of sentence-transformers.

``python -m tools.convert.compare_embeddings CHECKPOINT MODEL.gguf ... --python PYTHON``

PYTHON is an interpreter with sentence-transformers. The 1,000 texts are messages and route descriptions, mixtures of them,
and texts that make tokenizers disagree, up to the encoder's last position.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import yaml

from archroute_edge.engine import EmbeddingEngine, LoadedModel, Vectors
from archroute_edge.quantize import quantized_types
from tools.fixtures.texts import is_settled
from tools.fixtures.texts import texts as awkward_texts

N_TEXTS = 1000
LEAST_COSINE = {False: 0.9999, True: 0.998}
"""By whether the file is quantized."""

_REFERENCE = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
model.max_seq_length = model[0].auto_model.config.max_position_embeddings
texts = json.load(open(sys.argv[2], encoding="utf-8"))
np.save(sys.argv[3], model.encode(texts, normalize_embeddings=True, batch_size=16, show_progress_bar=False))
"""


def comparison_texts() -> list[str]:
    """The same 1,000 texts every time."""
    draw = random.Random(0)
    shipped = [path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parent / "calibration").glob("*.yaml"))]
    pieces = list(dict.fromkeys(text for document in shipped for text in _strings(yaml.safe_load(document))))
    mixed = [" ".join(draw.sample(pieces, draw.choice((2, 4, 8, 60)))) for _ in range(N_TEXTS)]
    awkward = [text for text in awkward_texts(N_TEXTS) if is_settled(text)]
    return [*pieces[: N_TEXTS // 4], *awkward[: N_TEXTS // 2], *mixed][:N_TEXTS]


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in _strings(each)]


def reference_vectors(checkpoint: Path, texts: list[str], interpreter: str) -> Vectors:
    """What sentence-transformers makes of ``texts``."""
    with tempfile.TemporaryDirectory() as scratch:
        asked, answered = Path(scratch) / "texts.json", Path(scratch) / "vectors.npy"
        asked.write_text(json.dumps(texts), encoding="utf-8")
        subprocess.run([interpreter, "-c", _REFERENCE, str(checkpoint), str(asked), str(answered)], check=True)
        vectors: Vectors = np.load(answered)
        return vectors


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--python", "interpreter", default=sys.executable, show_default=True, help="It has sentence-transformers.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
def main(checkpoint: Path, models: tuple[Path, ...], interpreter: str, threads: int) -> None:
    """Print how far each model's vectors are from those of CHECKPOINT; exit with 1 if one is too far."""
    texts = comparison_texts()
    expected = reference_vectors(checkpoint, texts, interpreter)
    failed = False
    for path in models:
        with LoadedModel(path, n_gpu_layers=0, wanted="encoder") as model:
            engine = EmbeddingEngine(model, threads)
            encoded = [engine.encode(text) for text in texts]
            found = engine.embed(encoded)
            engine.close()
            least = LEAST_COSINE[bool(quantized_types(model.header))]
        cosines = (found.astype(np.float64) * expected).sum(axis=1)
        worst = int(cosines.argmin())
        verdict = "close enough" if cosines.min() >= least else f"TOO FAR, the worst is {texts[worst][:80]!r}"
        lengths = [len(text.tokens) for text in encoded]
        click.echo(
            f"{path.name}: {len(texts)} texts of {min(lengths)} to {max(lengths)} tokens, least cosine {cosines.min():.6f}, "
            f"median {np.median(cosines):.6f} (at least {least}): {verdict}"
        )
        failed |= bool(cosines.min() < least)
    sys.exit(failed)


if __name__ == "__main__":
    main()
