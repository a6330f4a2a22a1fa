"""How many bad batches in a row are too many to be bad data alone.

With `p` the share of the batches seen so far that were found bad themselves, `n` bad batches in a
row are taken for the weights' fault when `p**n < 1e-4`; that is in doubt again when `p**n > 1e-3`.
Weights can explode on a part of the batches only; so where `p > 0.15`, counting those that would be
bad even at the initial weights, as many are measured there as tell whether they are.
"""

from __future__ import annotations

import math

UNLIKELY = 1e-4
DOUBTFUL = 1e-3
FEWEST, MOST = 2, 12
OFTEN = 0.1
FREQUENT, FEWEST_BAD = 0.15, 4
MOST_MEASURED = 24
FEWEST_NAN = 4  # finite weights seldom give a NaN by themselves; rows of data that hold one do


def share(n_seen: int, n_bad: int) -> float:
    """Of the batches that are bad themselves; not 0 before one was."""
    return (n_bad + 0.1) / (n_seen + 10.0)


def are_often_bad(n_seen: int, n_bad: int) -> bool:
    """Whether so many batches were found bad that the losses of the others do not tell all."""
    return share(n_seen, n_bad) > OFTEN


def is_frequent(n_seen: int, n_bad: int) -> bool:
    """Whether so many batches were found bad that it may be the weights on which they are."""
    return n_bad >= FEWEST_BAD and share(n_seen, n_bad) > FREQUENT


def enough(n_seen: int, n_bad: int) -> int:
    """How many good batches in a row at other weights say that the share of bad ones differs there.

    That is `n` with `(1 - p)**n < 0.01`, within limits.
    """
    return min(math.ceil(math.log(0.01) / math.log1p(-share(n_seen, n_bad))), MOST_MEASURED)


def needed(n_seen: int, n_bad: int, loss: float) -> int:
    """How many bad batches in a row, the last with this loss, put the blame on the weights.

    Args:
        n_seen: The batches seen so far.
        n_bad: Those of them that were found bad themselves.
        loss: The last one's.
    """
    p = share(n_seen, n_bad)
    n = FEWEST
    while p**n > UNLIKELY and n < MOST:
        n += 1
    return max(n, FEWEST_NAN) if math.isnan(loss) else n


def is_doubtful(n_seen: int, n_bad: int, n: int) -> bool:
    """Whether `n` bad batches in a row, once taken for the weights' fault, may have been bad data.

    Args:
        n_seen: The batches seen so far, by which more may be known than at that time.
        n_bad: Those of them that were found bad themselves.
        n: How many in a row there were.
    """
    return share(n_seen, n_bad) ** n > DOUBTFUL
