"""The search for a rate that trains: trials from the initial state, each at 0.3 times the last's.

A trial that breaks is abandoned. The search goes on while trials end lower than the best before;
one that ends as low but for chance is taken for the best too, since high rates look better in few
batches than they are in the end (Wu et al., 2018).
Then rates at which it was too few bad batches in a row that broke a trial, for the share of bad
data that has been seen meanwhile, are tried once more, from the highest on and while that helps.
In the end the best trial's end state and rate are taken.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pykguard.rules.spike._limit import middle, root, spread

FACTOR = 0.3
LENGTH = 24
AT_END = 8  # losses at a trial's end whose median says how it ended
LEAST_SCALE = 1e-7  # of the rate that training began at: below it nothing is tried


class Broken(NamedTuple):
    """A rate at which the weights seemed to break."""

    scale: float
    n: int  # the bad batches in a row that said so


class Search(NamedTuple):
    """The trials so far."""

    losses: tuple[float, ...] = ()  # of the trial that runs
    is_again: bool = False  # whether its rate was tried before
    broken: tuple[Broken, ...] = ()  # the rates that were tried once
    best: float = math.inf
    best_scale: float | None = None
    best_losses: tuple[float, ...] = ()


def is_over(search: Search) -> bool:
    """Whether the trial that runs has had its batches."""
    return len(search.losses) >= LENGTH


def end_of(search: Search) -> float:
    """How high the trial that runs has ended."""
    return middle(sorted(search.losses[-AT_END:]))


def is_as_good(search: Search) -> bool:
    """Whether the trial that runs has ended no higher than the best one but for chance.

    By the standard errors of both medians, of cube roots: 1.25 / sqrt(n) deviations each.
    """
    roots = [sorted(map(root, losses[-AT_END:])) for losses in (search.losses, search.best_losses)]
    medians = [middle(each) for each in roots]
    spreads = [spread(each, m) for each, m in zip(roots, medians, strict=True)]
    error = 1.25 * math.hypot(*spreads) / math.sqrt(AT_END)
    return medians[0] - medians[1] <= error
