"""Whether a network still learns, by how its kernels moved twice.

A kernel without gradients stands still, or coasts: momentum and moments carry it on in the same
direction, less each time. A network is dead when more than half of its kernels get no gradients.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

PARALLEL, SHRINKING = 0.999, 0.9


class Moves(NamedTuple):
    """How a kernel moved: the lengths of two moves, one after the other, and their dot product."""

    first: float
    second: float
    dot: float


def is_dead(kernels: Iterable[Moves]) -> bool:
    """Whether more than half of the kernels get no gradients."""
    dead = [_gets_no_gradient(moves) for moves in kernels]
    return 2 * sum(dead) > len(dead)


def _gets_no_gradient(moves: Moves) -> bool:
    if moves.second == 0.0:
        return True
    coasts = moves.dot > PARALLEL * moves.first * moves.second
    return moves.second < SHRINKING * moves.first and coasts
