"""What the tests of training/tests/mini have, for those that need PyTorch."""

from __future__ import annotations

from training.tests.mini.conftest import data, public, steered

__all__ = ["data", "public", "steered"]
