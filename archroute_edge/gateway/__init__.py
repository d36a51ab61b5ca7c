"""Forwarding: sends a request to the targets of its route, one after the other, until one answers, and passes the bytes on.

It keeps what the choice of a target needs to know: which targets rest, how fast they were, which model a conversation has.

Used by: ``server.http`` and ``cli``. Other rooms import only the names below; modules with an underscore belong to this room.
"""
