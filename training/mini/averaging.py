"""The mean of two ends of one training whose rate rose and fell twice.

Such a mean decides better on what no training saw than either end does (Izmailov et al. 2018, "Averaging Weights Leads to Wider
Optima and Better Generalization"). Layer normalization keeps no running statistics, so nothing has to be computed anew.
"""

from __future__ import annotations

from pathlib import Path

import torch

from training.mini.embedding import Encoder
from training.mini.training import ANSWERS


def average_of(one: Path, other: Path, out: Path) -> None:
    """Write to `out` the checkpoint halfway between two; raises FileNotFoundError for one that was not trained here."""
    first, second = Encoder(one), Encoder(other)
    theirs = first.model.state_dict()
    second.model.load_state_dict({name: (theirs[name] + value) / 2 for name, value in second.model.state_dict().items()})
    learned, also = (torch.load(folder / ANSWERS, weights_only=True) for folder in (one, other))
    second.write(out)
    torch.save({name: (learned[name] + value) / 2 for name, value in also.items()}, out / ANSWERS)
