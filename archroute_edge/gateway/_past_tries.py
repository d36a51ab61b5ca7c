"""What the record of earlier runs says of targets."""

from __future__ import annotations

from typing import Final

from archroute_edge.config import RoutingConfig
from archroute_edge.gateway._health import PastTry
from archroute_edge.record import Record

_LEAST: Final = 200


def past_tries(record: Record, config: RoutingConfig) -> list[PastTry]:
    """The latest tries of all targets, for :meth:`Health.fill`, the oldest first.

    Args:
        record: what was recorded.
        config: names the targets, and how many requests their trials compare.

    Raises:
        RecordError: the record cannot be read.
    """
    models = {model for route in config.table for model in route.models if model not in config.aliases}
    models |= {target.model for targets in config.aliases.values() for target in targets}
    if config.default_model is not None:
        models.add(config.default_model)
    rules = [*config.forward.routes.values(), *config.forward.aliases.values()]
    windows = [rule.canary.window for rule in rules if rule.canary is not None]
    found = record.last_tries(sorted(models), 2 * max([_LEAST, *windows]))
    return [
        PastTry(
            each.time,
            each.route,
            each.asked_model,
            each.one.model,
            each.one.error is None,
            each.one.first_byte_ms,
            not each.place,
        )
        for each in found
    ]
