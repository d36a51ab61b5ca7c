"""Both decoders on many route tables: the same tokens allowed at every step, and the same route unless two tie.

    python -m tools.measure.random_model --shape small --level F32 --vocabulary qwen2-vocab.gguf -o small.gguf
    python -m tools.measure.equality small.gguf [--engine ik]

The test suite proves this on a small vocabulary; this command repeats it with a model of any vocabulary.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import click
import numpy as np

from archroute_edge.decoding import AnswerSet, Decoded, GrammarDecoder, KVCache, SpeculativeDecoder
from archroute_edge.engine import (
    CompletionEngine,
    EngineName,
    EngineSettings,
    GrammarSampler,
    LoadedModel,
    open_engine,
    physical_cores,
)
from archroute_edge.prompts import PROMPT_FORMATS, PromptBuilder, to_gbnf
from tools.fixtures.route_tables import random_conversation, random_table


def compare_allowed(engine: CompletionEngine, answers: AnswerSet, draw: random.Random) -> tuple[int, int]:
    """Walk one random answer; returns the steps taken and those at which the allowed tokens differed."""
    vocabulary = engine.model.vocabulary
    flat = np.zeros(vocabulary.n_tokens, np.float32)
    texts = {answer.raw for answer in answers.answers}
    steps = different = 0
    consumed = b""
    with GrammarSampler(vocabulary, to_gbnf(answers.answers)) as sampler:
        while consumed not in texts:
            ours, pieces = answers.allowed(consumed)
            theirs = np.flatnonzero(sampler.allowed(flat))
            steps += 1
            different += ours.tolist() != theirs.tolist()
            token = int(draw.choice(theirs.tolist()))
            sampler.accept(token)
            consumed += pieces[token]
    return steps, different


def margin(decoded: Decoded, answers: AnswerSet) -> float:
    """The smallest distance between the best and second best allowed logits that ``decoded`` met."""
    smallest, consumed = float("inf"), b""
    for index, token in enumerate(decoded.path):
        allowed, pieces = answers.allowed(consumed)
        row = decoded.observed.get(decoded.path[:index])
        if row is not None and len(allowed) > 1:
            second, best = np.sort(row[allowed])[-2:]
            smallest = min(smallest, float(best - second))
        consumed += pieces[token]
    return smallest


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--cases", type=click.IntRange(min=1), default=200, show_default=True, help="Route tables, each with a conversation."
)
@click.option("--seed", default=0, show_default=True, help="Of the tables and conversations.")
@click.option(
    "--engine", type=click.Choice(["llama.cpp", "ik"]), default="llama.cpp", show_default=True, help="What evaluates."
)
def main(model: Path, cases: int, seed: int, engine: EngineName) -> None:
    """Compare the two decoders on random route tables and print the figures as JSON."""
    draw = random.Random(seed)
    steps = different_steps = same = evaluations = 0
    rounding, margins_of_different = 0.0, []
    started = time.monotonic()
    with LoadedModel(model, engine=engine) as loaded:
        context = open_engine(loaded, EngineSettings(8192, physical_cores()))
        for number in range(1, cases + 1):
            table, turns = random_table(draw), random_conversation(draw)
            builder = PromptBuilder(loaded, PROMPT_FORMATS[draw.choice(list(PROMPT_FORMATS))])
            answers = AnswerSet(loaded.vocabulary, builder.answers(table))
            walked, wrong = compare_allowed(context, answers, draw)
            steps, different_steps = steps + walked, different_steps + wrong
            prompt, static = builder.tokens(table, turns), builder.static_parts(table)
            found = []
            for decoder in (SpeculativeDecoder(), GrammarDecoder(loaded.vocabulary)):
                for sequence in range(context.n_sequences):
                    context.truncate(sequence, 0)
                with KVCache(context).working(prompt, static) as (work, _):
                    before = work.n_evaluations
                    found.append(decoder.decode(work, prompt[work.n_tokens :], answers))
                    evaluations += (work.n_evaluations - before) * isinstance(decoder, SpeculativeDecoder)
            fast, reference = found
            for path in fast.observed.keys() & reference.observed.keys():
                rounding = max(rounding, float(np.abs(fast.observed[path] - reference.observed[path]).max()))
            same += fast.route == reference.route
            if fast.route != reference.route:
                margins_of_different.append(margin(reference, answers))
            left = (time.monotonic() - started) / number * (cases - number)
            print(f"\r{number}/{cases}, {left:.0f} s left ", end="", file=sys.stderr, flush=True)
        context.close()
    print(file=sys.stderr)
    print(
        json.dumps(
            {
                "cases": cases,
                "steps_compared": steps,
                "steps_with_other_allowed_tokens": different_steps,
                "same_route": same,
                "largest_margin_where_routes_differ": max(margins_of_different, default=None),
                "largest_rounding_of_a_logit": rounding,
                "evaluations_per_decision": evaluations / cases,
            }
        )
    )


if __name__ == "__main__":
    main()
