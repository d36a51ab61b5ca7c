"""The policy ``quality``: predictors, rates and names from a configuration, and the order that comes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import archroute_edge.quality
from archroute_edge.config import (
    ForwardSettings,
    ModelFacts,
    Price,
    QualityPolicy,
    RoutingConfig,
    TrafficRule,
    WeightedModel,
)
from archroute_edge.decision import ModelReason, RankedTarget
from archroute_edge.errors import ConfigError, QualityError
from archroute_edge.quality import Predictor, PromptFeatures
from archroute_edge.routes import Route, RouteTable
from archroute_edge.targets import (
    Anchor,
    Assessment,
    Place,
    QualityPolicies,
    RequestFacts,
    advice,
    make_decision,
    order_targets,
)
from tests.fake_predictor import FakePredictor, harder_when_longer
from tests.fakes import verdict_of
from tests.targets.test_order import Known
from tests.targets.test_route_advice import no_vectors

FREE = ModelFacts(price=Price(0.0, 0.0))
DEAR = ModelFacts(price=Price(2.0, 16.0))
"""A cent for 1,000 tokens in and 500 out."""


def config_of(
    policy: QualityPolicy | None = None,
    models: Sequence[str] = ("a/small", "b/large"),
    **facts: ModelFacts,
) -> RoutingConfig:
    stated = {"a/small": FREE, "b/large": DEAR, **{f"c/{name}": each for name, each in facts.items()}}
    return RoutingConfig(
        RouteTable([Route("r", "some things to do", models), Route("plain", "some other things", ["b/large"])]),
        default_model="b/large",
        selection={"r": "quality"},
        quality={"r": policy or QualityPolicy(line=7)},
        forward=ForwardSettings(models=stated),
        source=Path("routes.yaml"),
        route_lines={"r": 5, "plain": 9},
    )


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Callable[[Predictor], list[Path]]:
    """Have any file hold this predictor; gives the files that are read."""

    def use(predictor: Predictor) -> list[Path]:
        paths: list[Path] = []

        def load(path: Path) -> Predictor:
            paths.append(path)
            return predictor

        monkeypatch.setattr(archroute_edge.quality, "load_predictor", load)
        return paths

    return use


Loaded = Callable[[Predictor], list[Path]]


def assessed(config: RoutingConfig, text: str) -> Assessment:
    return QualityPolicies(config).routes["r"].assess(PromptFeatures((text,), None))


SAMPLE = np.array([[0.1 * number, 0.9] for number in range(10)])
"""What the large model is better by: 0.9, 0.8, ... 0."""


@pytest.mark.parametrize(
    ("text", "rate", "models"),
    [
        ("x" * 10, 0.0, ("b/large", "a/small")),
        ("x" * 10, 20.0, ("a/small", "b/large")),
        ("x" * 50, 20.0, ("b/large", "a/small")),
        # 0.9 at no price, 0.9 for a cent; and equal values.
        ("", 1e-6, ("a/small", "b/large")),
        ("", 0.0, ("a/small", "b/large")),
    ],
)
def test_models_stand_by_expected_score_less_price(loaded: Loaded, text: str, rate: float, models: tuple[str, ...]) -> None:
    loaded(FakePredictor(expect=harder_when_longer))
    config = config_of(QualityPolicy(rate=rate))
    found = assessed(config, text)
    order = order_targets(config, "r", now=0, values=found.values(found.costs(config, RequestFacts())))
    assert (order.models, order.reason) == (models, "quality")


def test_the_price_is_that_of_this_request(loaded: Loaded) -> None:
    """A long prompt costs more than the usual one that the rate was found with."""
    loaded(FakePredictor(expect=harder_when_longer))
    config = config_of(QualityPolicy(rate=20.0))
    found = assessed(config, "x" * 50)
    values = found.values(found.costs(config, RequestFacts()))
    assert values == pytest.approx({"a/small": 0.4, "b/large": 0.7})
    found = assessed(config, "x" * 50)
    values = found.values(found.costs(config, RequestFacts(prompt_tokens=21_000)))
    assert values == pytest.approx({"a/small": 0.4, "b/large": -0.1})
    assert order_targets(config, "r", now=0, values=values).first == "a/small"


def test_the_decision_says_what_stands_for_and_against_each_target(loaded: Loaded) -> None:
    loaded(FakePredictor(expect=harder_when_longer))
    config = config_of(QualityPolicy(rate=20.0))
    policy = QualityPolicies(config).routes["r"]
    decision = make_decision(
        config, None, verdict_of("r"), None, False, assess=lambda _route: policy.assess(PromptFeatures(("x" * 50,), None))
    )
    assert decision.targets is not None
    assert [replace(each, value=round(each.value, 12)) for each in decision.targets] == [
        RankedTarget("b/large", 0.9, 0.01, 0.7, "best_value"),
        RankedTarget("a/small", 0.4, 0.0, 0.4, "lower_value"),
    ]
    assert (decision.model, decision.model_reason) == ("b/large", "quality")
    said = json.loads(json.dumps(decision.to_dict()))["targets"]
    assert [sorted(each) for each in said] == [["expected_score", "model", "price", "value", "why"]] * 2
    plain = make_decision(config, None, verdict_of("plain"), None, False, assess=lambda _route: None)
    assert plain.targets is None
    assert "targets" not in plain.to_dict()


def test_a_target_that_cannot_take_the_request_says_why(loaded: Loaded) -> None:
    loaded(FakePredictor(expect=harder_when_longer))
    config = config_of(QualityPolicy(rate=0.0))
    facts = dict(config.forward.models)
    facts["b/large"] = replace(DEAR, context_window=100)
    config = replace(config, forward=ForwardSettings(models=facts))
    found = assessed(config, "x" * 50)
    long = RequestFacts(prompt_tokens=101)
    order = order_targets(config, "r", facts=long, now=0, values=found.values(found.costs(config, long)))
    assert (order.models, order.reason) == (("a/small",), "only_one_fits")
    assert [(each.model, each.why) for each in found.ranked(found.costs(config, long), order)] == [
        ("a/small", "only_one_fits"),
        ("b/large", "context_window"),
    ]
    config = replace(config, forward=ForwardSettings(models=dict.fromkeys(facts, ModelFacts(context_window=100))))
    order = order_targets(config, "r", facts=long, now=0, values=found.values(found.costs(config, long)))
    assert (order.models, order.reason) == (("a/small", "b/large"), "none_fits")
    assert [each.why for each in found.ranked(found.costs(config, long), order)] == ["none_fits", "context_window"]


def test_equal_values_stand_as_in_the_file_and_say_so(loaded: Loaded) -> None:
    loaded(FakePredictor(expect=lambda _text: (0.5, 0.5)))
    config = config_of()
    found = assessed(config, "x")
    order = order_targets(config, "r", now=0, values=found.values(found.costs(config, RequestFacts())))
    assert order.models == ("a/small", "b/large")
    assert [each.why for each in found.ranked(found.costs(config, RequestFacts()), order)] == ["best_value", "equal_value"]


@pytest.mark.parametrize(
    ("known", "models", "reason"),
    [
        (Known(), ("b/large", "a/small"), "quality"),
        (Known(resting=("b/large",)), ("a/small", "b/large"), "resting"),
        (Known(resting=("a/small", "b/large")), ("b/large", "a/small"), "quality"),
    ],
)
def test_targets_that_rest_stand_last(known: Known, models: tuple[str, ...], reason: ModelReason) -> None:
    order = order_targets(config_of(), "r", now=0, knowledge=known, values={"a/small": 0.3, "b/large": 0.6})
    assert (order.models, order.reason) == (models, reason)


def test_a_conversation_keeps_its_model_and_shares_come_before_the_policy() -> None:
    """A harder question in the middle of a conversation would throw its cache away."""
    config, values = config_of(), {"a/small": 0.3, "b/large": 0.6}
    anchor = Anchor("a/small", "a/small", chosen={Place("route", "r"): "a/small"})
    order = order_targets(config, "r", now=0, anchor=anchor, values=values)
    assert (order.models, order.reason) == (("a/small", "b/large"), "sticky")
    shared = replace(config, forward=ForwardSettings(routes={"r": TrafficRule(weights={"a/small": 1})}))
    order = order_targets(shared, "r", now=0, values=values)
    assert (order.models, order.reason) == (("a/small", "b/large"), "weights")


def test_without_expected_scores_the_order_of_the_file_stays() -> None:
    order = order_targets(config_of(), "r", now=0)
    assert (order.models, order.reason) == (("a/small", "b/large"), "no_scores")


def test_a_model_that_nothing_is_expected_of_stands_last() -> None:
    config = config_of(models=["c/new", "a/small", "b/large"])
    order = order_targets(config, "r", now=0, values={"a/small": -3.0, "b/large": 0.6})
    assert order.models == ("b/large", "a/small", "c/new")


def test_equal_requests_have_equal_orders(loaded: Loaded) -> None:
    loaded(FakePredictor(expect=harder_when_longer))
    config = config_of(QualityPolicy(rate=20.0))
    for text in ("x" * number for number in range(60)):
        found = [assessed(config, text) for _ in range(2)]
        values = [each.values(each.costs(config, RequestFacts())) for each in found]
        orders = {order_targets(config, "r", now=now, key=key, values=values[0]) for now, key in ((0, "a"), (9e9, None))}
        assert values[0] == values[1] and len(orders) == 1


@pytest.mark.parametrize(
    ("policy", "rate"),
    [
        (QualityPolicy(), 0.0),
        (QualityPolicy(rate=12.5), 12.5),
        # A cent for 0.9, 0.8, ...: three of ten may go to the large one.
        (QualityPolicy(share=0.3), 60.0),
        (QualityPolicy(share=1.0), 0.0),
        (QualityPolicy(cost_per_1k=3.0), 60.0),
    ],
)
def test_a_share_or_a_cost_becomes_a_rate_by_the_sample(loaded: Loaded, policy: QualityPolicy, rate: float) -> None:
    loaded(FakePredictor(sample=SAMPLE))
    assert QualityPolicies(config_of(policy)).routes["r"].rate == pytest.approx(rate, rel=1e-9)


def test_the_lengths_of_the_sample_count_if_they_are_known(loaded: Loaded) -> None:
    predictor = FakePredictor(sample=SAMPLE)
    predictor.sample_tokens = np.full(10, 6000.0)
    loaded(predictor)
    # 6,000 tokens for 2 dollars a million, and the answer: two cents.
    assert QualityPolicies(config_of(QualityPolicy(share=0.3))).routes["r"].rate == pytest.approx(30.0, rel=1e-9)


def test_names_are_found_as_stated_as_they_are_or_without_the_provider(loaded: Loaded) -> None:
    loaded(FakePredictor(("b/large", "small", "tier"), lambda _text: (0.1, 0.2, 0.3)))
    models = ["a/small", "b/large", "c/new", "d/split"]
    config = config_of(QualityPolicy(scored_as={"c/new": "tier", "e/one": "small", "e/two": "tier"}), models)
    config = replace(config, aliases={"d/split": (WeightedModel("e/one"), WeightedModel("e/two", 0.0))})
    found = assessed(config, "x").scores
    assert found == {"a/small": 0.2, "b/large": 0.1, "c/new": 0.3, "e/one": 0.2, "e/two": 0.3}


@pytest.mark.parametrize(
    ("policy", "models", "message"),
    [
        (
            QualityPolicy(Path("p.st"), line=7),
            ["a/small", "c/new"],
            "route 'r': p.st knows no model 'c/new'; say under scored_as which of these it is like: 'small', 'large'",
        ),
        (
            QualityPolicy(Path("p.st"), scored_as={"a/small": "tiny"}, line=7),
            ["a/small"],
            "route 'r': scored_as: p.st knows no model 'tiny'; it knows 'small', 'large'",
        ),
        (
            QualityPolicy(share=0.5, scored_as={"c/unpriced": "small"}, line=7),
            ["b/large", "c/unpriced"],
            "route 'r': share needs the price of 'c/unpriced'; state it in the section 'archroute', or state a rate",
        ),
        (
            QualityPolicy(cost_per_1k=0.0, line=7),
            ["b/large"],
            "route 'r': 1,000 requests for $0 cannot be had: the cheapest models cost $10 already",
        ),
    ],
)
def test_what_cannot_be_kept_or_found_is_an_error_with_its_line(
    loaded: Loaded, policy: QualityPolicy, models: list[str], message: str
) -> None:
    loaded(FakePredictor(sample=SAMPLE))
    with pytest.raises(ConfigError) as caught:
        QualityPolicies(config_of(policy, models))
    assert str(caught.value) == f"routes.yaml:7: {message}"


def test_a_share_needs_a_sample_and_a_predictor_has_to_be_one(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(FakePredictor())
    with pytest.raises(ConfigError, match=r"routes.yaml:7: .* share needs a predictor with a sample, which archroute quality"):
        QualityPolicies(config_of(QualityPolicy(share=0.1, line=7)))

    def load(path: Path) -> Predictor:
        raise QualityError(f"{path}: no predictor")

    monkeypatch.setattr(archroute_edge.quality, "load_predictor", load)
    with pytest.raises(ConfigError, match=r"^routes.yaml:7: route 'r': x.st: no predictor$"):
        QualityPolicies(config_of(QualityPolicy(Path("x.st"), line=7)))


def test_a_file_is_read_once_and_the_bundled_one_without_a_name(loaded: Loaded) -> None:
    paths = loaded(FakePredictor(("large", "small"), lambda _text: (0.1, 0.2)))
    config = config_of()
    table = RouteTable([Route(name, "d", ["a/small", "b/large"]) for name in ("r", "s", "t")])
    policies = {"r": QualityPolicy(Path("x.st")), "s": QualityPolicy(Path("x.st")), "t": QualityPolicy()}
    assert set(QualityPolicies(replace(config, table=table, quality=policies)).routes) == {"r", "s", "t"}
    assert [path.name for path in paths] == ["x.st", "quality.safetensors"]


def test_a_route_without_models_reads_no_predictor(loaded: Loaded) -> None:
    paths = loaded(FakePredictor())
    assert QualityPolicies(config_of(models=[])).routes == {}
    assert QualityPolicies(RoutingConfig(config_of().table)).routes == {}
    assert paths == []


def told(config: RoutingConfig) -> list[tuple[str | None, int | None, str]]:
    found = advice(config, no_vectors)
    return [(each.route, each.line, each.message) for each in found if "quality" in each.message or "predictor" in each.message]


def test_advice_on_prices_that_are_missing_or_do_not_count(loaded: Loaded) -> None:
    loaded(FakePredictor(("small", "large", "third"), sample=np.array([[0.1, 0.9, 0.5], [0.9, 0.1, 0.5], [0.0, 0.0, 0.9]])))
    third = ["a/small", "b/large", "c/third"]
    assert told(config_of(QualityPolicy(rate=1.0))) == []
    (only,) = told(config_of(QualityPolicy(rate=1.0), third))
    assert only[:2] == ("r", 5) and "no price is known of 'c/third', so it counts as free" in only[2]
    assert told(config_of(QualityPolicy(rate=0.0), third)) == []
    (only,) = told(config_of())
    assert "at any price; state a share, cost_per_1k or rate" in only[2]


def test_advice_on_a_model_that_never_comes_first(loaded: Loaded) -> None:
    loaded(FakePredictor(sample=np.array([[0.9, 0.5], [0.6, 0.5]])))
    (only,) = told(config_of(QualityPolicy(rate=1.0)))
    assert only[2] == (
        "lists 'b/large', which never comes first: on all of the predictor's sample 'a/small' is expected to do better, and "
        "costs no more"
    )
    loaded(FakePredictor(sample=np.array([[0.9, 0.5], [0.5, 0.5]])))
    assert told(config_of(QualityPolicy(rate=1.0))) == []


def test_advice_on_shares_and_on_another_encoder(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(FakePredictor(encoder="another"))
    monkeypatch.setattr(archroute_edge.quality, "encoder_identity", lambda _path: "bundled")
    config = config_of(QualityPolicy(rate=1.0))
    (only,) = told(config)
    assert "trained on the vectors of another encoder than mini" in only[2]
    loaded(FakePredictor(encoder="bundled"))
    assert told(config) == []
    rules = {"r": TrafficRule(weights={"a/small": 1})}
    (only,) = told(replace(config, forward=replace(config.forward, routes=rules)))
    assert "shares its traffic by weights or a ramp, which come first" in only[2]
