"""How long a decision of the policy ``similarity`` takes, over battles that are drawn.

    python -m tools.measure.similarity_time

Medians and 95th percentiles in milliseconds, without the encoder; prompts are asked one at a time. The processor's time is that
of all cores, without waiting for other programs.
"""

from __future__ import annotations

import json
import time

import click
import numpy as np

from archroute_edge.quality import Battles, Prompt, PromptFeatures, train_similarity
from archroute_edge.report import p95


@click.command()
@click.option("--battles", type=click.IntRange(min=100), default=120_000, show_default=True, help="Drawn battles.")
@click.option("--prompts", type=click.IntRange(min=1), default=24_000, show_default=True, help="Prompts they are on.")
@click.option("--models", type=click.IntRange(2, 100), default=44, show_default=True, help="Models.")
@click.option("--width", type=click.IntRange(min=1), default=384, show_default=True, help="Numbers of a vector.")
@click.option("--rounds", type=click.IntRange(min=2), default=200, show_default=True, help="Decisions.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn.")
def main(battles: int, prompts: int, models: int, width: int, rounds: int, seed: int) -> None:
    """Print the times as JSON."""
    draw = np.random.default_rng(seed)
    # Texts are alike in part, as an encoder sees them.
    vectors = draw.standard_normal((prompts + rounds + 3, width), np.float32) + 0.4 * draw.standard_normal(width, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first = draw.integers(0, models, battles)
    second = (first + draw.integers(1, models, battles)) % models
    strengths = draw.standard_normal(models)
    won = (draw.random(battles) < 1 / (1 + np.exp(strengths[second] - strengths[first]))).astype(float)
    won[draw.random(battles) < 0.31] = 0.5
    asked = tuple(Prompt(str(number), str(number)) for number in range(prompts))
    texts = ("",) * len(vectors)
    drawn = Battles(asked, tuple(map(str, range(models))), draw.integers(0, prompts, battles), first, second, won)
    features = PromptFeatures(texts, vectors)
    begun = time.perf_counter()
    predictor = train_similarity(drawn, features.rows(np.arange(prompts)))
    trained_s = time.perf_counter() - begun
    taken, computed = [], []
    for number in range(prompts, len(vectors)):
        one = features.rows(np.array([number]))
        begun, of_process = time.perf_counter(), time.process_time()
        predictor.expected(one)
        taken.append(1000 * (time.perf_counter() - begun))
        computed.append(1000 * (time.process_time() - of_process))
    times = {"p50_ms": round(float(np.median(taken[3:])), 2), "p95_ms": p95(taken[3:], 2)}
    times["processor_p50_ms"] = round(float(np.median(computed[3:])), 2)
    sizes = {"battles": battles, "prompts": prompts, "models": models, "width": width, "rounds": rounds}
    print(json.dumps({**sizes, "training_s": round(trained_s, 1), **times}))


if __name__ == "__main__":
    main()
