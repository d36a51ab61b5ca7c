"""Routers: :class:`Router`, the thread-safe :class:`RoutingService`, :class:`AsyncRouter`, and a classifier for LiteLLM.

It checks settings, queues callers fairly, keeps deadlines, warms prefixes up and cancels.

Used by: applications, ``evaluation``, ``bench``, ``server`` and ``cli``. Other rooms import only the names below; modules
with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.routing._async_router import AsyncRouter
    from archroute_edge.routing._litellm_classifier import LiteLLMClassifier
    from archroute_edge.routing._router import Router
    from archroute_edge.routing._service import RoutingService
    from archroute_edge.routing._setting_limits import (
        BUDGET_LIMITS,
        GPU_LAYERS_LIMITS,
        LONGEST_DEADLINE_S,
        N_CTX_LIMITS,
        THREADS_LIMITS,
        read_deadline,
    )
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_async_router": "AsyncRouter",
            "_litellm_classifier": "LiteLLMClassifier",
            "_router": "Router",
            "_service": "RoutingService",
            "_setting_limits": "BUDGET_LIMITS GPU_LAYERS_LIMITS LONGEST_DEADLINE_S N_CTX_LIMITS THREADS_LIMITS read_deadline",
        },
    )
