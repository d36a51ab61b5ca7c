"""How well each model would answer a prompt, learned from outcomes: predictors, their training, evaluation and prices.

A *predictor* gives every model it knows an expected score from 0 to 1 for a prompt. The policy ``quality`` of a route orders
the route's targets by expected score less price. The four policies of RouteLLM (arXiv 2406.18665) are here, for any number of
models.

Used by: ``targets``, ``routing`` and ``cli``. Other rooms import only the names below; modules with an underscore belong to
this room. Deciding needs NumPy alone; training needs the extra ``quality``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.quality._bag_of_words import BagOfWords, require_scipy
    from archroute_edge.quality._battles_reading import read_battles
    from archroute_edge.quality._calibrate import RateReport, expected_of_sample, rate_report, with_sample
    from archroute_edge.quality._causal import Causal, train_causal
    from archroute_edge.quality._classifier import Classifier, Labels, LastLayer, labels_of, train_classifier
    from archroute_edge.quality._evaluation import EvaluationSettings, evaluate_predictor, evaluate_scores
    from archroute_edge.quality._factorization import Factorization, train_factorization
    from archroute_edge.quality._features import (
        ModelReader,
        VectorMaker,
        check_encoder,
        encoder_identity,
        features_of,
        find_encoder,
        kind_of_model,
        last_text,
        model_identity,
        open_reader,
        plain_features,
        prompt_tokens,
        read_prompt,
    )
    from archroute_edge.quality._figures import quality_tables, report_to_dict
    from archroute_edge.quality._graded import read_graded
    from archroute_edge.quality._heads import Heads
    from archroute_edge.quality._heads_by_kind import HeadsByKind
    from archroute_edge.quality._heads_fit import Ridges
    from archroute_edge.quality._levels import LEVEL_FORMAT, LEVELS
    from archroute_edge.quality._newcomers import graded_rows
    from archroute_edge.quality._novelty import MANY, Novelty
    from archroute_edge.quality._outcomes import Battles, Outcomes, Prompt, Scores
    from archroute_edge.quality._page import quality_page
    from archroute_edge.quality._policies import PolicyTraining, TrainedPolicy, new_category_parts
    from archroute_edge.quality._predictor import Policy, Predictor, PromptFeatures, Vectors
    from archroute_edge.quality._predictor_file import (
        MOST_BYTES,
        check_models,
        embed_predictor,
        load_predictor,
        read_about,
        save_predictor,
    )
    from archroute_edge.quality._prices import OperatingPoint, Trade
    from archroute_edge.quality._prompts_reading import read_prompts, read_prompts_and_lines
    from archroute_edge.quality._reading import read_outcomes
    from archroute_edge.quality._report import QualityReport
    from archroute_edge.quality._similarity import Similarity, train_similarity
    from archroute_edge.quality._splits import Split, battles_of, category_of, folds, split_by_category
    from archroute_edge.quality._strengths import fit_calibration
    from archroute_edge.quality._suggestion import suggest_prompts
    from archroute_edge.quality._train import Trained, train_heads
    from archroute_edge.quality._train_by_kind import TrainedByKind, kinds_of, train_heads_by_kind
    from archroute_edge.quality._training import (
        PairCheck,
        battles_among,
        check_pair,
        choose_targets,
        held_out_parts,
        held_out_scores,
        merge_tiers,
        sets_of,
        widest_pair,
    )
    from archroute_edge.quality._yardstick import YardstickTraining
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_bag_of_words": "BagOfWords require_scipy",
            "_battles_reading": "read_battles",
            "_calibrate": "RateReport expected_of_sample rate_report with_sample",
            "_causal": "Causal train_causal",
            "_classifier": "Classifier Labels LastLayer labels_of train_classifier",
            "_evaluation": "EvaluationSettings evaluate_predictor evaluate_scores",
            "_factorization": "Factorization train_factorization",
            "_features": (
                "ModelReader VectorMaker check_encoder encoder_identity features_of find_encoder kind_of_model last_text "
                "model_identity open_reader plain_features prompt_tokens read_prompt"
            ),
            "_figures": "quality_tables report_to_dict",
            "_graded": "read_graded",
            "_heads": "Heads",
            "_heads_by_kind": "HeadsByKind",
            "_heads_fit": "Ridges",
            "_levels": "LEVELS LEVEL_FORMAT",
            "_newcomers": "graded_rows",
            "_novelty": "MANY Novelty",
            "_outcomes": "Battles Outcomes Prompt Scores",
            "_page": "quality_page",
            "_policies": "PolicyTraining TrainedPolicy new_category_parts",
            "_predictor": "Policy Predictor PromptFeatures Vectors",
            "_predictor_file": "MOST_BYTES check_models embed_predictor load_predictor read_about save_predictor",
            "_prices": "OperatingPoint Trade",
            "_prompts_reading": "read_prompts read_prompts_and_lines",
            "_reading": "read_outcomes",
            "_report": "QualityReport",
            "_similarity": "Similarity train_similarity",
            "_splits": "Split battles_of category_of folds split_by_category",
            "_strengths": "fit_calibration",
            "_suggestion": "suggest_prompts",
            "_train": "Trained train_heads",
            "_train_by_kind": "TrainedByKind kinds_of train_heads_by_kind",
            "_training": (
                "PairCheck battles_among check_pair choose_targets held_out_parts held_out_scores merge_tiers sets_of "
                "widest_pair"
            ),
            "_yardstick": "YardstickTraining",
        },
    )
