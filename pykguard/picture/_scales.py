"""The scales of the picture of a loss history."""

from __future__ import annotations

import math

import numpy as np

from pykguard.picture._thin import Array

Limits = tuple[float, float]

_MARGIN = 0.04
_DRAWABLE = 1e280  # beyond it the length of an axis is infinite, or 0


def edges(curves: Array) -> Limits:
    """Between which values losses are drawn to scale, given the epochs' losses.

    What is further off than nine times the largest of them is beyond an edge: for positive losses
    everything above ten times the worst.
    """
    finite = curves[np.isfinite(curves)]
    reach = 9 * float(np.abs(finite).max(initial=0))
    if reach == 0:
        return -_DRAWABLE, _DRAWABLE
    low, high = float(finite.min()) - reach, float(finite.max()) + reach
    return max(low, -_DRAWABLE), min(high, _DRAWABLE)


def spans(values: Array, factor: float) -> bool:
    """Whether values are positive, and the highest is more than `factor` times the lowest."""
    if len(values) == 0 or not values.min() > 0:
        return False
    return bool(values.max() / factor > max(values.min(), 1 / _DRAWABLE))


def limits(values: Array, log: bool, include_zero: bool = False) -> Limits:
    """Limits of an axis that shows the values, with some room on both sides."""
    if len(values) == 0:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if log:
        low, high = math.log10(low), math.log10(high)
        room = _MARGIN * (high - low)
        return max(10 ** (low - room), 1 / _DRAWABLE), 10 ** (high + room)
    if include_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    size = max(abs(low), abs(high))
    if high - low <= 1e-6 * size:  # one value, but for rounding
        low, high = low - 0.5 * size, high + 0.5 * size
    room = _MARGIN * (high - low) or 0.5
    return (low - room if low < 0 else max(low - room, 0.0)), high + room


def ticks(span: Limits, per_epoch: int) -> tuple[list[float], list[int], str]:
    """Where the axis of time has ticks, their numbers, and what they count.

    Epochs are counted; where there is only one, its batches.
    """
    first, last = math.floor(span[0]), math.ceil(span[1])
    if last - first > 1:
        numbers = _round_numbers(first, last)
        return [float(number) for number in numbers], numbers, "epoch"
    numbers = _round_numbers(1, round((span[1] - first) * per_epoch))
    title = f"batch of epoch {first + 1}" if first else "batch"
    return [first + number / per_epoch for number in numbers], numbers, title


def _round_numbers(first: int, last: int) -> list[int]:
    """At most eleven multiples of 1, 2 or 5 times a power of ten."""
    steps = (digit * 10**power for power in range(12) for digit in (1, 2, 5))
    step = next(step for step in steps if (last - first) / step <= 10)
    return list(range(-(-first // step) * step, last + 1, step))
