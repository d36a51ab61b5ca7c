"""Errors of the commands for labelled cases."""

from __future__ import annotations

from archroute_edge.errors import ArchRouteError


class DataSetError(ArchRouteError):
    """A public data set cannot be fetched, is not laid out as published, or holds less than is asked for."""
