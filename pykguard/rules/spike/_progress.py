"""Whether training gets anywhere: the smoothed loss, its best, and its drift.

The smoothed loss is the mean of the last 16 accepted ones without two at either end. It has drifted
iff it is above 1.5 times its best, by more than a tenth of the geometric mean of its best and the
level that training began at and by more than 3 times the robust standard deviation of those 16, and
above 1.2 times what was found to be the data's doing before. Where losses differ so much that this
says little, it has drifted too if it and that of the 16 losses before are both above twice its
best, and above it by more than a tenth of the level that training began at, and the median of all
32 is higher in cube roots by 1.25 times their deviation. In the last batches of a training, whose
weights are those that stay, 1.2 times its best and once the deviation are enough.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pykguard.rules.spike._robust import middle, root, spread, typical

SMOOTHED = 16
ENOUGH = 8  # losses for a smoothed loss that may be the best
DRIFT, LEAST_DRIFT, MORE, NOISE = 1.5, 0.1, 1.2, 3.0
# For twice as many losses; the least in shares of the initial level, the noise that of cube roots.
LASTING_DRIFT, LEAST_LASTING, LASTING_NOISE = 2.0, 0.1, 1.25
LAST_DRIFT, LAST_NOISE = 1.2, 1.0  # in the last batches, which leave the weights that stay
IMPROVED = 0.01  # of its size: a smoothed loss that is lower by this has made progress
EARLY = 0.2  # of the initial level: what counts as having got anywhere


class Progress(NamedTuple):
    """The accepted losses since the last state that was put back."""

    last: tuple[float, ...] = ()
    best: float = math.inf
    reached: float = math.inf  # the best when there was progress last
    allowed: float = -math.inf  # the highest smoothed loss that the data were found to cause
    since_best: int = 0  # accepted losses since there was progress


def smoothed(progress: Progress) -> float | None:
    """The smoothed loss; None while there are too few."""
    newest = progress.last[-SMOOTHED:]
    return typical(newest) if len(newest) >= ENOUGH else None


def hovers(progress: Progress) -> bool:
    """Whether the later half of the last losses is not lower by 1 % than the earlier one."""
    half = len(progress.last) // 2
    earlier, later = (typical(each) for each in (progress.last[:half], progress.last[half:]))
    return later >= earlier - IMPROVED * abs(earlier)


def is_high(progress: Progress, loss: float) -> bool:
    """Whether a loss is above the last ones by more than their standard deviation.

    The state that it was measured at may then be worse than they say.
    """
    newest = progress.last[-SMOOTHED:]
    return loss > typical(newest) + spread(newest, middle(sorted(newest)))


def add(progress: Progress, loss: float) -> Progress:
    """With one more accepted loss."""
    return progress._replace(
        last=(*progress.last, loss)[-2 * SMOOTHED :],
        since_best=progress.since_best + 1,
    )


def improved(progress: Progress, value: float) -> Progress:
    """With a smoothed loss that is the best; small steps that add up are progress too."""
    reached = progress.reached
    if math.isinf(reached) or value < reached - IMPROVED * abs(reached):
        progress = progress._replace(since_best=0, reached=value)
    return progress._replace(best=value)


def has_drifted(progress: Progress, value: float, initial: float, at_the_end: bool) -> bool:
    """Whether this smoothed loss is so much above the best that training goes the wrong way."""
    factor, sds = (LAST_DRIFT, LAST_NOISE) if at_the_end else (DRIFT, NOISE)
    best, newest, earlier = progress.best, progress.last[-SMOOTHED:], progress.last[:-SMOOTHED]
    size = math.sqrt(initial * best) if initial > best > 0 else abs(initial)
    least = max(factor * best, MORE * progress.allowed, best + LEAST_DRIFT * size, 0.0)
    if len(newest) < SMOOTHED or value <= least:
        return False
    if value - best > sds * spread(newest, value):
        return True
    least = max(least, LASTING_DRIFT * best, best + LEAST_LASTING * abs(initial))
    if len(earlier) < SMOOTHED or min(value, typical(earlier)) <= least:
        return False
    roots = sorted(map(root, progress.last))
    rise = middle(roots) - root(best)
    return rise > LASTING_NOISE * spread(roots, middle(roots))


def has_got_anywhere(progress: Progress, initial: float) -> bool:
    """Whether the best smoothed loss is well below the level that training began at."""
    return progress.best <= initial - EARLY * abs(initial)


def interrupted(progress: Progress) -> Progress:
    """After another state was put back: the levels stay."""
    return Progress(best=progress.best, reached=progress.reached, allowed=progress.allowed)
