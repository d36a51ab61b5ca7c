"""What the tests of training/tests/mini have, for those that need PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training.mini.base import parse_base, write_checkpoint
from training.tests.mini.conftest import data, public, steered
from training.tests.mini.small_base import PIECES, make_small_base

__all__ = ["data", "public", "steered"]

# As the trainings do; threads that wait for one another cost more than they save on small tensors.
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a base with weights by chance."""
    folder = tmp_path_factory.mktemp("base")
    write_checkpoint(parse_base(make_small_base().content), np.arange(len(PIECES)), folder)
    return folder
