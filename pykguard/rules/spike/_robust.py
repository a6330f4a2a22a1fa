"""Robust statistics of losses, which one high loss does not move."""

from __future__ import annotations

import math
from collections.abc import Sequence

NORMAL = 1.4826  # times the MAD: the standard deviation where the distribution is normal


def root(loss: float) -> float:
    """Its cube root: those of sums of squares are nearly normal (Wilson and Hilferty)."""
    return math.copysign(abs(loss) ** (1 / 3), loss)


def middle(ordered: Sequence[float]) -> float:
    """The median of losses in order of size."""
    n = len(ordered)
    return 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2])


def typical(losses: Sequence[float]) -> float:
    """The mean of losses without an eighth of them at either end.

    The median says too little where most rows are learnt by heart and a few are far off.
    """
    ordered, n = sorted(losses), len(losses) // 8
    return math.fsum(ordered[n : len(ordered) - n]) / (len(ordered) - 2 * n)


def spread(ordered: Sequence[float], m: float) -> float:
    """The robust standard deviation: the median absolute deviation from the median, scaled."""
    return NORMAL * middle(sorted(abs(each - m) for each in ordered))


def times(factor: float, level: float) -> float:
    """`factor * level` for positive levels; as far above the level for others."""
    if math.isinf(level):
        return level
    return level + (factor - 1) * abs(level)
