"""From a trained model's GGUF to one that has its predictor in it, fitted on prompts that the model was not trained on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from archroute_edge.quality import (
    Classifier,
    LastLayer,
    Novelty,
    Outcomes,
    Predictor,
    PromptFeatures,
    embed_predictor,
    features_of,
    fit_calibration,
    model_identity,
    prompt_tokens,
    save_predictor,
    train_causal,
)


def package_causal(model: Path, fitted: Outcomes, out: Path, about: tuple[str, str], seed: int) -> None:
    """A language model with the values of its marks.

    Args:
        model: its GGUF.
        fitted: outcomes that it was not trained on.
        out: the new GGUF.
        about: names of the sets, and their licences.
        seed: of the sample.
    """
    known = _answered(fitted)
    features = features_of(known.prompts, model, _progress)
    predictor = train_causal(known, features, model=model_identity(model), seed=seed)
    _write(predictor, features, model, out, about, seed)


def package_classifier(
    model: Path, layer: LastLayer, models: Sequence[str], fitted: Outcomes, out: Path, about: tuple[str, str], seed: int
) -> None:
    """An encoder with its last layer, calibrated; arguments as for :func:`package_causal`."""
    columns = fitted.columns(models)
    known = columns.rows(np.flatnonzero(~np.isnan(columns.scores).all(axis=1)))
    features = features_of(known.prompts, model, _progress)
    assert features.vectors is not None
    strengths = layer.strengths(features.vectors)
    calibration = fit_calibration(strengths, known.scores)
    predictor = Classifier(tuple(models), model_identity(model), calibration.expected(strengths), layer, calibration)
    predictor.sample_tokens = np.array([prompt_tokens(prompt) for prompt in known.prompts], np.float64)
    _write(predictor, features, model, out, about, seed)


def _answered(outcomes: Outcomes) -> Outcomes:
    """Models that answered some of the prompts, and prompts that some of them answered."""
    columns = outcomes.columns(outcomes.scored_models)
    return columns.rows(np.flatnonzero(~np.isnan(columns.scores).all(axis=1)))


def _write(predictor: Predictor, features: PromptFeatures, model: Path, out: Path, about: tuple[str, str], seed: int) -> None:
    predictor.novelty = Novelty.of(features, seed)
    alone = out.with_name(out.name + ".safetensors.partial")
    try:
        save_predictor(predictor, alone, trained_on=about[0], licence=about[1])
        embed_predictor(alone, model, out)
    finally:
        alone.unlink(missing_ok=True)


def _progress(done: int, total: int) -> None:
    print(f"\r{done}/{total} prompts read ", end="\n" if done == total else "", file=sys.stderr, flush=True)
