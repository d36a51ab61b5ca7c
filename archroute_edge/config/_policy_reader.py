"""The selection policy of a route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, cast, get_args

from archroute_edge.config._forward_reader import at_least_0, file_beside, model_of, share
from archroute_edge.config._keys import SELECTION_POLICY
from archroute_edge.config._models import ModelSection
from archroute_edge.config._node import Node, shorten
from archroute_edge.config._schema import Advice, QualityPolicy, RoutingConfig, SelectionPolicy

POLICIES: Final[tuple[str, ...]] = get_args(SelectionPolicy)
_GOALS: Final = ("share", "cost_per_1k", "rate")


def read_policy(
    section: Node, models: ModelSection, listed: Sequence[str]
) -> tuple[SelectionPolicy | None, QualityPolicy | None]:
    """The policy, and what it says if it prefers ``quality``; None for one of another program that is not known here.

    Args:
        section: the policy.
        models: the models of the file.
        listed: the models and aliases of the route.

    Raises:
        ConfigError: an unknown policy or key, or a key that its policy has no use for.
    """
    fields = section.fields(SELECTION_POLICY)
    expected = f"{section.what} needs prefer: {', '.join(POLICIES[:-1])} or {POLICIES[-1]}"
    if "prefer" not in fields:
        raise section.error(expected)
    policy = fields["prefer"].text()
    if policy == "quality":
        return "quality", _quality(section, fields, models, listed)
    if policy not in POLICIES and not section.source.foreign:
        raise fields["prefer"].error(f"{expected}, not {shorten(policy)}")
    for name, value in fields.items():
        if name != "prefer":
            raise value.error(f"{section.what}: {name} is for prefer: quality, not {shorten(policy)}; leave it out")
    if policy in POLICIES:
        return cast(SelectionPolicy, policy), None
    message = f"{section.what} prefers {shorten(policy)}, which is not known here; models are tried in the order of the file"
    section.source.notes.append(Advice(message, line=fields["prefer"].line))
    return None, None


def _quality(section: Node, fields: dict[str, Node], models: ModelSection, listed: Sequence[str]) -> QualityPolicy:
    stated = [name for name in _GOALS if name in fields]
    if len(stated) > 1:
        both = f"{stated[0]} and {stated[1]}"
        raise fields[stated[1]].error(f"{section.what}: {both} are two ways to say what an answer may cost; keep one")
    goals = {name: (share if name == "share" else at_least_0)(fields[name]) for name in stated}
    return QualityPolicy(
        predictor=file_beside(fields["predictor"]) if "predictor" in fields else None,
        share=goals.get("share"),
        cost_per_1k=goals.get("cost_per_1k"),
        rate=goals.get("rate"),
        scored_as=_scored_as(fields["scored_as"], models, listed) if "scored_as" in fields else {},
        line=section.line,
    )


def _scored_as(section: Node, models: ModelSection, listed: Sequence[str]) -> dict[str, str]:
    targets = [target for name in listed for target in models.models_of(name)]
    found: dict[str, str] = {}
    for key, value in section.entries():
        model = model_of(key.called(section.what), models)
        if model not in targets:
            known = ", ".join(map(shorten, targets[:8])) or "none"
            raise key.error(f"{section.what}: the route has no target {shorten(model)}; its targets are {known}")
        if model in found:
            raise key.error(f"{section.what} has two names for {shorten(model)}")
        found[model] = value.called(f"{section.what}: {shorten(model)}").name()
    return found


def with_file_times(config: RoutingConfig) -> RoutingConfig:
    """The configuration with the times at which its predictors were written."""

    def seen(policy: QualityPolicy) -> QualityPolicy:
        try:
            return replace(policy, modified=None if policy.predictor is None else policy.predictor.stat().st_mtime_ns)
        except (OSError, ValueError):
            # Whoever reads the file says what is wrong with it.
            return policy

    if not config.quality:
        return config
    return replace(config, quality={name: seen(policy) for name, policy in config.quality.items()})
