"""Thinning a long series for the eye."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def thin(times: Array, values: Array, n: int) -> Array:
    """Min-max decimation: the positions of what a line `n` pixels wide shows of a series.

    The axis is cut in `n` buckets of equal width. Of each the first, the last, the lowest and the
    highest finite value are kept, and for a gap in the line the first that is not finite, so at
    most `5 * n` in all. A series of at most `4 * n` is kept whole.

    Args:
        times: Where the values are on the axis, never falling.
        values: The values.
        n: The number of buckets.
    """
    if len(values) <= 4 * n:
        return np.arange(len(values))
    bucket = buckets(times, n)
    finite = np.isfinite(values)
    good, bad = np.flatnonzero(finite), np.flatnonzero(~finite)
    kept = [bad[_starts(bucket[bad])]]
    if len(good):
        starts = _starts(bucket[good])
        kept += [good[starts], good[np.append(starts[1:], len(good)) - 1]]
        for extreme in (np.minimum, np.maximum):
            kept.append(good[_where_extreme(values[good], starts, extreme)])
    positions: Array = np.unique(np.concatenate(kept))
    return positions


def first_of_each(times: Array, n: int, span: tuple[float, float]) -> Array:
    """The positions of the first time in each of the `n` buckets of `span`."""
    return _starts(buckets(times, n, span))


def medians(times: Array, values: Array, n: int) -> tuple[Array, Array]:
    """The middle of each of `n` buckets, and the median of the finite values in it.

    A bucket without a finite value has the median NaN; one without a value is left out.
    """
    starts = _starts(buckets(times, n))
    parts = np.split(values, starts)[1:]
    ends = np.append(starts, len(times))[1:] - 1
    return (times[starts] + times[ends]) / 2, np.array([_median(part) for part in parts])


def buckets(times: Array, n: int, span: tuple[float, float] | None = None) -> Array:
    """The number of each time's bucket, where `span`, by default theirs, is cut in `n`."""
    if len(times) == 0:
        return np.empty(0, dtype="int64")
    low, high = span or (times[0], times[-1])
    if not high > low:
        return np.zeros(len(times), dtype="int64")
    return np.clip(((times - low) * n / (high - low)).astype("int64"), 0, n - 1)


def _starts(bucket: Array) -> Array:
    """The positions at which another bucket begins."""
    return np.flatnonzero(np.diff(bucket, prepend=-1))


def _where_extreme(values: Array, starts: Array, extreme: np.ufunc) -> Array:
    """The position of the first lowest, or highest, value of each part."""
    sizes = np.diff(np.append(starts, len(values)))
    hits = np.flatnonzero(values == np.repeat(extreme.reduceat(values, starts), sizes))
    return hits[_starts(np.repeat(np.arange(len(starts)), sizes)[hits])]


def _median(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else np.nan
