"""Stopping what is being evaluated, from any thread."""

from __future__ import annotations

import ctypes

from archroute_edge.errors import DecisionCancelledError


class Cancellation:
    """A flag that stops the evaluation it was given to. Set once, from any thread, and never taken back."""

    def __init__(self) -> None:
        self._flag = ctypes.create_string_buffer(2)

    def cancel(self) -> None:
        """Stop what runs with this flag, as soon as it looks."""
        self._flag[0] = 1

    @property
    def cancelled(self) -> bool:
        """Whether the flag is set."""
        return self._flag[0] != b"\0"

    def check(self) -> None:
        """Raise where the flag is set.

        Raises:
            DecisionCancelledError: it is.
        """
        if self.cancelled:
            raise DecisionCancelledError("the decision was cancelled")
