"""Whether a network still learns, by how the units of its kernels moved twice.

A unit, of which a kernel's last axis has one for each of its places, that gets no gradients stands
still, or coasts: momentum and moments carry it on in the same direction, less each time. A network
is dead when more than half of its kernels have no unit that learns, and harmed when a kernel has
less than a quarter of those that it had.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PARALLEL, SHRINKING = 0.999, 0.9
LEAST = 0.25  # of the units that learnt before


class Moves(NamedTuple):
    """How a unit moved: the lengths of two moves, one after the other, and their dot product."""

    first: float
    second: float
    dot: float


Kernels = Sequence[Sequence[Moves]]  # of each kernel its units


def n_learning(kernels: Kernels) -> tuple[int, ...]:
    """How many units of each kernel get gradients."""
    return tuple(sum(not _gets_no_gradient(moves) for moves in units) for units in kernels)


def n_moved_first(kernels: Kernels) -> tuple[int, ...]:
    """How many units of each kernel made the first of the two moves."""
    return tuple(sum(moves.first > 0 for moves in units) for units in kernels)


def is_dead(learning: Sequence[int]) -> bool:
    """Whether more than half of the kernels have no unit that learns, by how many each has."""
    return 2 * sum(not n for n in learning) > len(learning)


def is_harmed(learning: Sequence[int], before: Sequence[int], least: float = LEAST) -> bool:
    """Whether in a kernel fewer than that share of the units learn that did before."""
    return any(n < least * n_before for n, n_before in zip(learning, before, strict=True))


def _gets_no_gradient(moves: Moves) -> bool:
    if moves.second == 0.0:
        return True
    coasts = moves.dot > PARALLEL * moves.first * moves.second
    return moves.second < SHRINKING * moves.first and coasts
