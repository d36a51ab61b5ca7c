"""What the tests of training/tests/mini have, for those that need PyTorch."""

from __future__ import annotations

import torch

from training.tests.mini.conftest import data, public, steered

__all__ = ["data", "public", "steered"]

# As the trainings do; threads that wait for one another cost more than they save on small tensors.
torch.set_num_threads(1)
