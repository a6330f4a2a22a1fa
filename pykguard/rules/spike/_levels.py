"""How high losses are: those at the initial weights, and the last accepted ones."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple

from pykguard.rules.spike._robust import middle, root, times

FEW = 8  # accepted losses whose median is trusted more than one loss at the initial weights
MOST_INITIAL = 64
FEW_INITIAL = 5  # of which the lower half says how much they differ
QUARTILES = 9.0  # times from the lower quartile to the median: six standard deviations
SUSPECT = 30.0  # times a later loss: a first one that is higher may be that of bad data


class Levels(NamedTuple):
    """What is known of how high losses are."""

    initial: tuple[float, ...] = ()  # measured at the initial weights, in order of size
    recent: tuple[float, ...] = ()  # the last accepted, oldest first
    ordered: tuple[float, ...] = ()  # the same in order of size


def add_initial(levels: Levels, loss: float) -> Levels:
    """With a loss that was measured at the initial weights, good or bad."""
    if not math.isfinite(loss) or len(levels.initial) >= MOST_INITIAL:
        return levels
    return levels._replace(initial=_with(levels.initial, loss))


def add(levels: Levels, loss: float, window: int) -> Levels:
    """With one more accepted loss."""
    recent, ordered = (*levels.recent, loss), list(levels.ordered)
    insort(ordered, loss)
    if len(recent) > window:
        del ordered[bisect_left(ordered, recent[0])]
        recent = recent[1:]
    return levels._replace(recent=recent, ordered=tuple(ordered))


def started_over(levels: Levels, losses: Sequence[float] = ()) -> Levels:
    """With no accepted losses but these."""
    return levels._replace(recent=tuple(losses), ordered=tuple(sorted(losses)))


def initial_level(levels: Levels) -> float:
    """The median of the normal losses at the initial weights; infinite before there is one."""
    normal = normal_initial(levels)
    return middle(normal) if normal else math.inf


def normal_initial(levels: Levels) -> tuple[float, ...]:
    """Those losses at the initial weights that are no more than some times their lower quartile.

    Some of the first batches may be bad themselves, and batches of few rows differ much: four times
    where there are few, and else ten times or what their lower half lets expect, twice at least.
    """
    losses = levels.initial
    if not losses:
        return ()
    n, quartile = len(losses), losses[len(losses) // 4]
    highest = times(4.0 if n < FEW_INITIAL else 10.0, quartile)
    if n >= FEW_INITIAL and quartile > 0:
        roots = [root(loss) for loss in losses]
        m, low = middle(roots), roots[n // 4]
        highest = min(highest, max(2 * quartile, (m + QUARTILES * (m - low)) ** 3))
    return tuple(loss for loss in losses if loss <= highest)


def is_first_suspect(levels: Levels, loss: float) -> bool:
    """Whether a loss is so low that the first may have been that of bad data."""
    return 0 < len(levels.recent) < 2 * FEW and 0 <= SUSPECT * loss < initial_level(levels)


def without_suspects(levels: Levels, loss: float) -> Levels:
    """With this loss, which was measured at the initial weights, instead of suspect ones."""
    return levels._replace(initial=(loss,))


def _with(ordered: tuple[float, ...], value: float) -> tuple[float, ...]:
    more = list(ordered)
    insort(more, value)
    return tuple(more)
