"""From kinds to a checkpoint: the tokenizer, the word vectors, the training."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from tokenizers import Tokenizer

from training.mini import published
from training.tiny import card_prompt
from training.tiny.kinds_bank import Kind
from training.tiny.model import Qwen2, Shape
from training.tiny.questions import card_questions, held_back_questions, tally
from training.tiny.sampling import Sampler
from training.tiny.scoring import decide
from training.tiny.stream import SOURCES
from training.tiny.teacher import ENCODER, lessons_of
from training.tiny.tokenizer import train_tokenizer
from training.tiny.training import Job, Recipe, train
from training.tiny.wiring import SENSE
from training.tiny.word_vectors import learn_vectors, meanings_of

_TABLES_READ = 8000
_VECTOR_STEPS = 600
# How often a word of the encoder's vocabulary counts for the tokenizer: the more frequent it is, the more.
_WORD_WEIGHT, _MOST_OFTEN = 200_000, 200
_WATCHED = 40


def word_texts(words: Sequence[str]) -> Iterator[str]:
    """Texts for the tokenizer: words, the most frequent first, so that one has a token of its own without being in the data."""
    for rank, word in enumerate(words, start=1):
        often = max(2, min(_MOST_OFTEN, _WORD_WEIGHT // rank))
        yield f" {word}" * often
        yield f'"{word} ' * (often // 3)


def prompt_texts(sampler: Sampler, seed: int) -> Iterator[str]:
    """Texts for the tokenizer: route tables, conversations and answers as the prompts hold them."""
    rng = random.Random(seed)
    for _ in range(_TABLES_READ):
        case = sampler.case(rng, rng.choices(list(SOURCES), list(SOURCES.values()))[0], 8)
        yield card_prompt.head(case.routes)[0]
        for messages, label in zip(case.conversations, case.labels, strict=True):
            yield card_prompt.conversation(messages) + card_prompt.answer(label)
    yield card_prompt.TAIL


def run(kinds: dict[str, Kind], sampler: Sampler, held: Sampler, out: Path, steps: int | None, resume: bool) -> None:
    """Train into the checkpoint folder `out`; the quality on a few held-back messages is shown at every save."""
    torch.set_num_threads(1)
    recipe = Recipe() if steps is None else replace(Recipe(), steps=steps)
    known = [kind for group in sampler.by_source.values() for kind in group]
    lessons = lessons_of(known, ENCODER, recipe.seed)
    vectors = None
    if resume:
        tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    else:
        encoder = published.fetch()
        texts = chain(prompt_texts(sampler, recipe.seed), word_texts(published.words(encoder)))
        tokenizer = train_tokenizer(texts, Shape().vocab_size)
        vectors = learn_vectors(known, tokenizer, meanings_of(tokenizer, encoder), SENSE, _VECTOR_STEPS, recipe.seed)
    questions = [q for source in SOURCES for q in held_back_questions(held, source, _WATCHED)]
    questions += card_questions(kinds)

    def validate(model: Qwen2) -> str:
        figures = tally(questions, decide(model, tokenizer, questions))
        return ", ".join(f"{group} {row['right']:.0%}" for group, row in figures.items())

    train(Job(sampler, tokenizer, out, recipe, resume, validate, lessons, vectors))
