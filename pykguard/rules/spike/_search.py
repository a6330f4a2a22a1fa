"""The search for a rate that trains: trials from the initial state, each at 0.3 times the last's.

A trial that breaks is abandoned, and after one that ends above twice the initial level the rate is
cut twice. The search goes on while trials end lower than the best before, by 2 % at least, since on
a plateau the lowest rate is the least noisy one and trains nothing. One that ends as low but for
chance is taken for the best too, if that has gained anything, since high rates look better in few
batches than they are in the end (Wu et al., 2018).
Then rates at which it was too few bad batches in a row that broke a trial, for the share of bad
data that has been seen meanwhile, are tried once more, from the highest on and while that helps.
In the end the best trial's end state and rate are taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pykguard.rules.spike._robust import middle, root, spread, typical

FACTOR = 0.3
SHORTEST, LENGTH, SHARE = 16, 24, 16  # batches of a trial, and how many such a training has
GAIN = 0.02  # of the level: what is no noise on a plateau
FAR = 2.0  # times the initial level
AT_END = 8  # losses at a trial's end whose median says how it ended
LEAST_SCALE = 1e-7  # of the rate that training began at: below it nothing is tried


class Broken(NamedTuple):
    """A rate at which the weights seemed to break."""

    scale: float
    n: int  # the bad batches in a row that said so


class Search(NamedTuple):
    """The trials so far."""

    losses: tuple[float, ...] = ()  # of the trial that runs
    learning: tuple[int, ...] | None = None  # units of each kernel that did at its beginning
    is_half_over: bool = False  # whether it was looked at in the middle
    is_again: bool = False  # whether its rate was tried before
    broken: tuple[Broken, ...] = ()  # the rates that were tried once
    best: float = math.inf
    best_scale: float | None = None
    best_losses: tuple[float, ...] = ()


def length(n_all: int) -> int:
    """The batches of a trial, or of each side of a comparison, in a training of so many.

    0 stands for a number that is not known.
    """
    return max(SHORTEST, min(LENGTH, n_all // SHARE)) if n_all else LENGTH


def is_lower(search: Search, initial: float) -> bool:
    """Whether the trial that runs has ended lower than the best one by more than a plateau's noise.

    Args:
        search: With the trial's losses.
        initial: The level that training began at.
    """
    if math.isinf(search.best):
        return True
    return end_of(search) < search.best - GAIN * min(abs(search.best), abs(initial))


def has_gained(search: Search, initial: float) -> bool:
    """Whether the best trial has got below the level that training began at."""
    return search.best < initial - GAIN * abs(initial)


def is_far_off(search: Search, initial: float) -> bool:
    """Whether the trial that runs has ended so high that the next rate is no good either."""
    return end_of(search) > initial + (FAR - 1) * abs(initial)


def end_of(search: Search) -> float:
    """How high the trial that runs has ended."""
    return typical(search.losses[-AT_END:])


def is_as_good(search: Search) -> bool:
    """Whether the trial that runs has ended no higher than the best one but for chance.

    By the standard errors of both medians, of cube roots: 1.25 / sqrt(n) deviations each.
    """
    rise, error = compared(search.losses[-AT_END:], search.best_losses[-AT_END:])
    return rise <= error


def compared(losses: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """How much higher the median of some losses is than that of others, and the standard error.

    Both of cube roots; the standard error of a median of `n` is 1.25 / sqrt(n) deviations.
    """
    roots = [sorted(map(root, each)) for each in (losses, others)]
    medians = [middle(each) for each in roots]
    errors = [
        1.25 * spread(each, m) / math.sqrt(len(each))
        for each, m in zip(roots, medians, strict=True)
    ]
    return medians[0] - medians[1], math.hypot(*errors)
