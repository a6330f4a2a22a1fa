"""How many bad batches in a row are too many to be bad data alone.

With `p` the share of the batches seen so far that were found bad themselves, bad batches in a row
are taken for the weights' fault when `p**n < 1e-4`.
"""

from __future__ import annotations

import math

UNLIKELY = 1e-4
FEWEST, MOST = 2, 12
FEWEST_NAN = 4  # finite weights seldom give a NaN by themselves; rows of data that hold one do


def needed(n_seen: int, n_bad: int, loss: float) -> int:
    """How many bad batches in a row, the last with this loss, put the blame on the weights.

    Args:
        n_seen: The batches seen so far.
        n_bad: Those of them that were found bad themselves.
        loss: The last one's.
    """
    p = (n_bad + 0.1) / (n_seen + 10.0)
    n = FEWEST
    while p**n > UNLIKELY and n < MOST:
        n += 1
    return max(n, FEWEST_NAN) if math.isnan(loss) else n
