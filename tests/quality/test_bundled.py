"""The predictor that comes with the package, in a configuration that names tiers and no file."""

from __future__ import annotations

from archroute_edge import Router
from archroute_edge.config import parse_config
from archroute_edge.quality import Prompt, load_predictor, plain_features, read_about, read_prompt
from archroute_edge.system import bundled_folder

FILE = bundled_folder() / "quality.safetensors"
CONFIG = """
default_model: ollama/qwen3:8b
routing_preferences:
  - name: questions
    description: questions of any kind, on science, mathematics, history, code or daily life
    models: [ollama/qwen3:8b, openai/gpt-5-mini, anthropic/claude-sonnet-4-6]
    selection_policy:
      prefer: quality
      POLICY
      scored_as: {ollama/qwen3:8b: small, openai/gpt-5-mini: mid, anthropic/claude-sonnet-4-6: frontier}
  - {name: poems, description: writing poems, models: [ollama/qwen3:8b]}
archroute:
  models:
    ollama/qwen3:8b: {price: {input: 0, output: 0}}
    openai/gpt-5-mini: {price: {input: 0.25, output: 2.00}}
    anthropic/claude-sonnet-4-6: {price: {input: 3.00, output: 15.00}}
"""
EASY = "A baker sells 12 rolls for 6 dollars. How much does one roll cost?"
HARD = (
    "Let $p$ be an odd prime. Determine, with proof, the number of ordered pairs $(a, b)$ of residues modulo $p$ such that "
    "$x^4 + ax + b$ has no root in $\\mathbb{F}_p$, and compute the sum of $\\binom{p-1}{k} 3^{-k}$ over all $k$ modulo $p^2$."
)


def test_it_is_small_and_says_what_it_was_trained_on() -> None:
    predictor = load_predictor(FILE)
    assert predictor.models == ("small", "mid", "frontier")
    assert FILE.stat().st_size < 2_000_000
    about = read_about(FILE)
    assert "mmlupro" in about["trained_on"] and "Apache-2.0" in about["licence"]
    assert len(predictor.sample) and predictor.novelty is not None


def test_a_better_tier_is_never_expected_to_be_far_worse_and_gains_most_where_it_is_hard() -> None:
    predictor = load_predictor(FILE)
    features = plain_features([read_prompt(Prompt(name, text)) for name, text in (("easy", EASY), ("hard", HARD))])
    easy, hard = predictor.expected(features)
    assert easy[0] > 0.7 > hard[0]
    assert hard[2] - hard[0] > easy[2] - easy[0] + 0.1
    assert (predictor.sample[:, 2] > predictor.sample[:, 0]).mean() > 0.95


def test_a_configuration_with_tiers_needs_no_file() -> None:
    with Router(config=parse_config(CONFIG.replace("POLICY\n      ", "")), model="mini", threads=1) as router:
        best = router.route(EASY)
    assert best.route == "questions" and best.targets is not None
    assert best.model == max(best.targets, key=lambda each: each.expected_score or 0.0).model


def test_the_dearest_model_gets_the_hard_prompt_and_not_the_easy_one() -> None:
    with Router(config=parse_config(CONFIG.replace("POLICY", "share: 20%")), model="mini", threads=1) as router:
        easy, hard = router.route(EASY), router.route(HARD)
    assert easy.model != hard.model == "anthropic/claude-sonnet-4-6"
