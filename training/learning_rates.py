"""How the learning rate changes over a training."""

from __future__ import annotations

import math


def warm_cosine(progress: float, warmup: float) -> float:
    """The part of the highest rate at a progress from 0 to 1: a linear warm-up, then half a cosine down to nothing."""
    if progress < warmup:
        return max(progress, 0.002) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))
