"""Waiting first-turn decisions: one evaluation of several sequences, against one after another.

    python -m tools.measure.batched_decisions random-1.5B-Q4_0.gguf --sizes 2,4,8 --rounds 5

Both ways evaluate the same tokens behind one static prefix (the conversation with its closing instructions and the guessed
beginning of the answer), and ask for the same logits. Rounds are interleaved, and alternate which way begins. The largest
difference of a logit shows the effect of a batch on a decision.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import click
import numpy as np

from archroute_edge.cli.options import read_config
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.conversation import Turn
from archroute_edge.engine import EngineSettings, LoadedModel, Logits, open_engine, physical_cores, sequence_batch
from archroute_edge.prompts import CARD, PromptBuilder
from tools.measure.option_types import Numbers
from tools.measure.peers.question import fresh_messages

_N_CTX = 8192


class _Decisions:
    """Decisions on one engine whose sequence 0 holds the static prefix; logits for the end of each prompt."""

    def __init__(self, model: LoadedModel, n_threads: int) -> None:
        self.engine = open_engine(model, EngineSettings(_N_CTX, n_threads))
        self._prompt = PromptBuilder(model, CARD)
        self._table = read_config(None).config.table
        self._prefix = self._prompt.static_parts(self._table).prefix
        self._guess = model.vocabulary.tokenize('{"route": "')
        self.engine.evaluate(sequence_batch(0, self._prefix, 0))

    def new_tokens(self, message: str) -> list[int]:
        """The tokens that a decision on ``message`` evaluates after the static prefix."""
        prompt = self._prompt.tokens(self._table, [Turn("user", message)])
        assert tuple(prompt[: len(self._prefix)]) == self._prefix
        return [*prompt[len(self._prefix) :], *self._guess]

    def one_after_another(self, decisions: Sequence[Sequence[int]]) -> Logits:
        rows = []
        for tokens in decisions:
            self.engine.copy(0, 1, 0, len(self._prefix))
            rows.append(self.engine.evaluate(self._batch(1, tokens)))
            self.engine.truncate(1, 0)
        return np.concatenate(rows)

    def together(self, decisions: Sequence[Sequence[int]]) -> Logits:
        batch = []
        for number, tokens in enumerate(decisions, 1):
            self.engine.copy(0, number, 0, len(self._prefix))
            batch += self._batch(number, tokens)
        rows = self.engine.evaluate(batch)
        for number in range(1, len(decisions) + 1):
            self.engine.truncate(number, 0)
        return rows

    def _batch(self, sequence: int, tokens: Sequence[int]) -> list:  # type: ignore[type-arg]
        wanted = range(len(tokens) - len(self._guess) - 1, len(tokens))
        return sequence_batch(sequence, tokens, len(self._prefix), wanted)


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--sizes", type=Numbers(2, 32), default="2,4,8", show_default=True, help="Decisions that wait together.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Rounds of fresh messages a size.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]")
def main(model: Path, sizes: list[int], rounds: int, threads: int | None) -> None:
    """Print the median seconds a decision, both ways, as JSON."""
    messages = fresh_messages()
    report = []
    with LoadedModel(model) as loaded, ProgressLine() as progress:
        decisions = _Decisions(loaded, threads or physical_cores())
        ways = {"one_after_another": decisions.one_after_another, "together": decisions.together}
        for size in sizes:
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            difference = n_tokens = 0.0
            for number in range(rounds + 1):
                asked = [decisions.new_tokens(message) for message in islice(messages, size)]
                rows = {}
                for name in sorted(ways, reverse=bool(number % 2)):
                    started = time.perf_counter()
                    rows[name] = ways[name](asked)
                    # The first round warms up.
                    if number:
                        seconds[name].append((time.perf_counter() - started) / size)
                one, other = rows.values()
                difference = max(difference, float(np.abs(one - other).max()))
                n_tokens = statistics.mean(len(tokens) for tokens in asked)
                progress(f"rounds of {size}", number, rounds)
            medians = {f"{name}_s": statistics.median(values) for name, values in seconds.items()}
            ratio = medians["together_s"] / medians["one_after_another_s"]
            report.append(
                {"size": size, "tokens": n_tokens, **medians, "ratio_of_medians": ratio, "largest_logit_difference": difference}
            )
        decisions.engine.close()
    json.dump(
        {"model": model.name, "threads": threads or physical_cores(), "rounds": rounds, "sizes": report}, sys.stdout, indent=2
    )
    print()


if __name__ == "__main__":
    main()
