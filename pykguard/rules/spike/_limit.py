"""The limit above which a batch's loss is bad, from the losses that were accepted before it.

With `m` the median of the last `window` accepted losses, and `m_f` and `MAD_f` the median and the
median absolute deviation of `f(loss)`, a loss is bad iff it is not finite or, where `m > 0`, above

    max(2 * m, (m_cbrt + threshold * s_cbrt)**3, min(exp(m_log + threshold * s_log), H))

where `s_f = 1.4826 * MAD_f`. The cube roots of sums of squares are nearly normal (Wilson and
Hilferty, 1931). The logarithms count where losses spread over orders of magnitude, up to `H`, which
is a quarter of the level `L0` that training began at, and `10 * L0` where `s_log > 1`: where nearly
all rows are learnt by heart, the loss of those that are not may be higher than at the beginning.
After a loss that was above `2 * L0` as well, it is that. Where `m <= 0` the limit is
`m + max(threshold * s, |m|)`, and `10 * L0` where more than half are 0 and none is negative. Before
`warmup` losses were accepted, it is at least twice `L0`, or four times `m` if that is lower; and
before 8 were, three times the highest normal loss at the initial weights. Before there was any
trouble, one of these alone, whose neighbours are below that, may be ten times as high.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple

NORMAL = 1.4826  # times the MAD: the standard deviation where the distribution is normal
FEWEST = 3  # accepted losses whose spread says anything
FEW = 8  # accepted losses whose median is trusted more than one loss at the initial weights
MOST_INITIAL = 64
FEW_INITIAL = 5  # of which the lower half says how much they differ
QUARTILES = 9.0  # times from the lower quartile to the median: six standard deviations
SUSPECT = 30.0  # times a later loss: a first one that is higher may be that of bad data

LOW, HIGH = 0.25, 10.0  # times the initial level: up to there losses may spread widely, or
WIDE = 1.0  # where they spread by more than this, in logarithms
AGAIN = 2.0  # instead of `HIGH`, after a loss that was above that as well
FIRST = 3.0  # times the initial level: the limit before there are those few, and
ALONE = 10.0  # for one alone, as it is not known yet how much losses differ


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
    normal = _normal_initial(levels)
    return middle(normal) if normal else math.inf


def _normal_initial(levels: Levels) -> tuple[float, ...]:
    """Those losses at the initial weights that are no more than some times their lower quartile.

    Some of the first batches may be bad themselves, and batches of few rows differ much: four times
    where there are few, and else ten times or what their lower half lets expect, twice at least.
    """
    losses = levels.initial
    if not losses:
        return ()
    n, quartile = len(losses), losses[len(losses) // 4]
    highest = _times(4.0 if n < FEW_INITIAL else 10.0, quartile)
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


def is_bad(
    levels: Levels,
    loss: float,
    threshold: float,
    warmup: int,
    *,
    following: float | None = None,
    is_calm: bool = False,
) -> bool:
    """Whether a loss is not finite, or above the limit.

    Args:
        levels: What is known.
        loss: The loss to judge.
        threshold: The limit's, in standard deviations.
        warmup: Accepted losses before which the limit is a higher one.
        following: The next batch's loss, where it is known already.
        is_calm: Whether there was no trouble so far.
    """
    if not math.isfinite(loss):
        return True
    if len(levels.recent) >= FEW:
        m = middle(levels.ordered)
        if loss <= m + abs(m):  # below any limit, as nearly all are
            return False
    is_early = is_calm and 0 < len(levels.recent) < FEW
    if is_early and min(loss, levels.recent[-1]) > _limit_of_last(levels, threshold):
        return True
    if loss > limit(levels, threshold, warmup):
        return not (is_early and _is_alone(levels, loss, threshold, following))
    lower = limit(levels, threshold, warmup, high=AGAIN)
    return bool(levels.recent) and min(loss, levels.recent[-1]) > lower


def is_in_doubt(levels: Levels, loss: float, threshold: float) -> bool:
    """Whether a good loss is above the limit, so that it proves nothing of its weights."""
    return len(levels.recent) < FEW and loss > limit(levels, threshold, FEW)


def _is_alone(levels: Levels, loss: float, threshold: float, following: float | None) -> bool:
    """Whether a loss that is above the limit is not by much, and the following one is below it."""
    if loss > _times(ALONE, _first_level(levels)):
        return False
    return following is None or following <= limit(levels, threshold, FEW)


def _limit_of_last(levels: Levels, threshold: float) -> float:
    return limit(started_over(levels, levels.recent[:-1]), threshold, FEW)


def limit(levels: Levels, threshold: float, warmup: int, *, high: float = HIGH) -> float:
    """The highest loss that is good; infinite where nothing is known."""
    n = len(levels.recent)
    known = _robust_limit(levels, threshold, high) if n >= FEWEST else -math.inf
    if n < FEW:
        return max(known, _times(FIRST, _first_level(levels)))
    if len(levels.recent) >= warmup:
        return known
    return max(known, _times(2.0, _early_level(levels)))


def is_far(levels: Levels, loss: float) -> bool:
    """Whether a loss would be bad even at the initial weights."""
    return not math.isfinite(loss) or loss > _times(FIRST, _first_level(levels))


def _robust_limit(levels: Levels, threshold: float, high: float) -> float:
    losses = levels.ordered
    m = middle(losses)
    if m == 0 and losses[0] == 0:
        return high * initial_level(levels)
    if m <= 0:
        return m + max(threshold * spread(losses, m), abs(m))
    roots = [root(loss) for loss in losses]
    root_m = middle(roots)
    of_roots: float = (root_m + threshold * spread(roots, root_m)) ** 3
    highest = max(of_roots, 2 * m)
    least = max(1e-12 * m, 5e-324)
    logs = [math.log(max(loss, least)) for loss in losses]
    log_m = middle(logs)
    log_sd = spread(logs, log_m)
    of_logs = math.exp(min(log_m + threshold * log_sd, 700.0))
    most = high if log_sd > WIDE else LOW
    return max(highest, min(of_logs, most * initial_level(levels)))


def _first_level(levels: Levels) -> float:
    normal = _normal_initial(levels)
    level = normal[-1] if normal else math.inf
    return max(level, middle(levels.ordered)) if levels.recent else level


def _early_level(levels: Levels) -> float:
    m = middle(levels.ordered)
    return max(min(initial_level(levels), _times(2.0, m)), m)


def _times(factor: float, level: float) -> float:
    """`factor * level` for positive levels; as far above the level for others."""
    if math.isinf(level):
        return level
    return level + (factor - 1) * abs(level)


def _with(ordered: tuple[float, ...], value: float) -> tuple[float, ...]:
    more = list(ordered)
    insort(more, value)
    return tuple(more)
