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

from pykguard.rules.spike._levels import (
    FEW,
    Levels,
    initial_level,
    normal_initial,
    started_over,
)
from pykguard.rules.spike._robust import middle, root, spread, times

FEWEST = 3  # accepted losses whose spread says anything
LOW, HIGH = 0.25, 10.0  # times the initial level: up to there losses may spread widely, or
WIDE = 1.0  # where they spread by more than this, in logarithms
AGAIN = 2.0  # instead of `HIGH`, after a loss that was above that as well
FIRST = 3.0  # times the initial level: the limit before there are those few, and
ALONE = 10.0  # for one alone, as it is not known yet how much losses differ


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


def without_doubtful(levels: Levels, threshold: float) -> Levels:
    """Without the last accepted loss, if it was in doubt and a bad one has followed on it."""
    if not 0 < len(levels.recent) < FEW or levels.recent[-1] <= _limit_of_last(levels, threshold):
        return levels
    return started_over(levels, levels.recent[:-1])


def _is_alone(levels: Levels, loss: float, threshold: float, following: float | None) -> bool:
    """Whether a loss that is above the limit is not by much, and the following one is below it."""
    if loss > times(ALONE, _first_level(levels)):
        return False
    return following is None or following <= limit(levels, threshold, FEW)


def _limit_of_last(levels: Levels, threshold: float) -> float:
    return limit(started_over(levels, levels.recent[:-1]), threshold, FEW)


def limit(levels: Levels, threshold: float, warmup: int, *, high: float = HIGH) -> float:
    """The highest loss that is good; infinite where nothing is known."""
    n = len(levels.recent)
    known = _robust_limit(levels, threshold, high) if n >= FEWEST else -math.inf
    if n < FEW:
        return max(known, times(FIRST, _first_level(levels)))
    if len(levels.recent) >= warmup:
        return known
    return max(known, times(2.0, _early_level(levels)))


def is_far(levels: Levels, loss: float) -> bool:
    """Whether a loss would be bad even at the initial weights."""
    return not math.isfinite(loss) or loss > times(FIRST, _first_level(levels))


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
    normal = normal_initial(levels)
    level = normal[-1] if normal else math.inf
    return max(level, middle(levels.ordered)) if levels.recent else level


def _early_level(levels: Levels) -> float:
    m = middle(levels.ordered)
    return max(min(initial_level(levels), times(2.0, m)), m)
