"""When one value is worse, or better, than another.

Both questions are asked so that a NaN is on the safe side: it is worse than anything, and better
than nothing.
"""

from __future__ import annotations

from typing import Literal

Direction = Literal["min", "max"]


def slack(reference: float, tolerance: float, relative_tolerance: float) -> float:
    """How far a value may be on the wrong side: `max(tolerance, relative_tolerance * |reference|)`.

    The absolute value keeps the slack on the side of leniency where the reference is negative.
    """
    return max(tolerance, relative_tolerance * abs(reference))


def is_worse(direction: Direction, value: float, reference: float, allowed: float = 0.0) -> bool:
    """`not (value <= reference + allowed)` when minimising; maximising, the mirror image."""
    if direction == "min":
        return not (value <= reference + allowed)
    return not (value >= reference - allowed)


def is_better(direction: Direction, value: float, best: float | None, delta: float = 0.0) -> bool:
    """`value < best - delta` when minimising; any number is better than no best at all."""
    if best is None:
        return value == value
    if direction == "min":
        return value < best - delta
    return value > best + delta
