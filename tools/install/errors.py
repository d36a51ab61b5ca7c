"""The error that ends an installation."""

from __future__ import annotations


class InstallError(Exception):
    """The installation cannot be done; the message is for the user and says what to do."""
