"""Forwarding: sends a request to the targets of its route, one after the other, until one answers, and passes the bytes on.

It keeps what the choice of a target needs to know: which targets rest, how fast they were, which model a conversation has.

Used by: ``server.http`` and ``cli``. Other rooms import only the names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.gateway._error_bodies import error_body
    from archroute_edge.gateway._forward_request import AUTO, ForwardRequest, RouteFound
    from archroute_edge.gateway._gateway import Gateway
    from archroute_edge.gateway._health import Health, PastTry
    from archroute_edge.gateway._model_span import model_span
    from archroute_edge.gateway._passing_answer import BrokenAnswerError, Forwarded
    from archroute_edge.gateway._past_tries import past_tries
    from archroute_edge.gateway._reach import Reach
    from archroute_edge.gateway._reachability import forwarding_notes, forwarding_problems
    from archroute_edge.gateway._sessions import Conversations
    from archroute_edge.gateway._target import Target
    from archroute_edge.gateway._variables import UnsetVariableError
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_error_bodies": "error_body",
            "_forward_request": "AUTO ForwardRequest RouteFound",
            "_gateway": "Gateway",
            "_health": "Health PastTry",
            "_model_span": "model_span",
            "_passing_answer": "BrokenAnswerError Forwarded",
            "_past_tries": "past_tries",
            "_reach": "Reach",
            "_reachability": "forwarding_notes forwarding_problems",
            "_target": "Target",
            "_variables": "UnsetVariableError",
            "_sessions": "Conversations",
        },
    )
