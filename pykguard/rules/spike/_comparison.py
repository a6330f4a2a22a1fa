"""The comparison of the present rate with another one, in a training whose rate was at fault.

As many batches as a trial has are trained at either rate from the same state, one after the other.
Where the loss hovers, the other rate is taken if the median of its last half is lower by two
standard errors; while it falls, and on a plateau that it has never left, a higher rate is, unless
it is higher by one. Else training goes on from where the present rate had got.
"""

from __future__ import annotations

from typing import NamedTuple

from pykguard.rules.spike import _search

UP, DOWN = 1 / _search.FACTOR, _search.FACTOR
CEILING = 0.7  # of a rate that was at fault late: it is raised no further
WORTH = 1.3  # times the present rate: what a higher one has to be at least to be compared
LOWER = 2.0  # standard errors
FIRST, LOST, LATE = 1, 2, 4  # trials' lengths to let pass: at first, after one that was lost, and
# after a fault of the rate; each is doubled when it comes again
MOST_LOST = 0.1  # of the units that learn
ENOUGH = 0.5  # of the training, that is left where it may begin anew
LEFT = 3  # trials' lengths that are left at least when one begins


class Comparison(NamedTuple):
    """A comparison that runs."""

    factor: float  # the other rate, in present ones
    hovers: bool  # whether the loss did when it began
    scale: float  # the present rate, in those that training began at
    first: tuple[float, ...] = ()  # the losses at the present rate
    other: tuple[float, ...] | None = None  # those at the other one; None before its turn
    may_begin_anew: bool = False  # whether enough of the training is left for that
    learning: tuple[int, ...] = ()  # units of each kernel that did at the end of the first


def is_taken(comparison: Comparison) -> bool:
    """Whether the other rate is to be taken, when both have had their batches."""
    rise, error = _search.compared(*ends(comparison))
    return rise < -LOWER * error if comparison.hovers else rise <= error


def ends(comparison: Comparison) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The last half of the losses at the other rate, and at the present one."""
    assert comparison.other is not None
    n = len(comparison.first) // 2
    return comparison.other[-n:], comparison.first[-n:]
