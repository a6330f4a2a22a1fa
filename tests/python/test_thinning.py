import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pykguard.picture._thin import buckets, first_of_each, medians, thin

NUMBERS = st.one_of(
    st.integers(-9, 9).map(float),
    st.floats(-1e300, 1e300),
    st.sampled_from([np.nan, np.inf, -np.inf]),
)


@st.composite
def series(draw):
    """Times that never fall, some of them equal, values, and a number of buckets."""
    n = draw(st.integers(1, 6))
    size = draw(st.integers(0, 12 * n))
    values = draw(st.lists(NUMBERS, min_size=size, max_size=size))
    steps = draw(st.lists(st.sampled_from([0, 1, 1, 2, 17]), min_size=size, max_size=size))
    times = np.cumsum(steps) / draw(st.sampled_from([1, 3, 1000]))
    return times, np.array(values), n


def extremes(values):
    finite = values[np.isfinite(values)]
    return (finite.min(), finite.max()) if len(finite) else None


@given(series())
@settings(max_examples=200, deadline=None)
def test_what_is_kept_is_in_order_and_little(data):
    times, values, n = data
    kept = thin(times, values, n)
    assert (np.diff(kept) > 0).all()
    assert len(kept) <= 5 * n
    assert np.isin(kept, np.arange(len(values))).all()


@given(series())
@settings(max_examples=200, deadline=None)
def test_a_short_series_is_kept_whole(data):
    times, values, n = data
    if len(values) <= 4 * n:
        assert thin(times, values, n).tolist() == list(range(len(values)))


@given(series(), st.integers(0, 5), st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_every_window_of_whole_buckets_keeps_its_extremes_and_ends(data, first, width):
    times, values, n = data
    if len(values) == 0:
        return
    low, high = times[0], times[-1]
    # By the definition of a bucket: [first, first + width) of n equal parts of the axis.
    part = np.floor((times - low) * n / (high - low)) if high > low else np.zeros(len(times))
    inside = (part.clip(0, n - 1) >= first) & (part.clip(0, n - 1) < first + width)
    kept = np.zeros(len(values), dtype=bool)
    kept[thin(times, values, n)] = True
    assert extremes(values[kept & inside]) == extremes(values[inside])
    finite = inside & np.isfinite(values)
    if finite.any():
        ends = np.flatnonzero(finite)[[0, -1]]
        assert kept[ends].all()
    assert (inside & ~np.isfinite(values)).any() == (kept & inside & ~np.isfinite(values)).any()


@given(series(), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_no_window_shows_less_than_it_holds_within_a_bucket_beside_it(data, start, size):
    times, values, n = data
    if len(values) == 0:
        return
    width = (times[-1] - times[0]) / n
    left = times[0] + start * (times[-1] - times[0])
    right = left + width + size * (times[-1] - times[0])
    kept = thin(times, values, n)
    inside = extremes(values[(times >= left) & (times <= right)])
    margin = width * (1 + 1e-9)
    near = extremes(values[kept][(times[kept] >= left - margin) & (times[kept] <= right + margin)])
    if inside is not None:
        assert near[0] <= inside[0] and near[1] >= inside[1]


@given(series())
@settings(max_examples=200, deadline=None)
def test_the_running_median_is_that_of_each_bucket(data):
    times, values, n = data
    at, found = medians(times, values, n)
    assert len(at) <= n
    bucket = buckets(times, n)
    stretches = [times[bucket == number] for number in np.unique(bucket)]
    assert at.tolist() == [(stretch[0] + stretch[-1]) / 2 for stretch in stretches]
    parts = [values[bucket == number] for number in np.unique(bucket)]
    finite = [part[np.isfinite(part)] for part in parts]
    with np.errstate(over="ignore"):
        truth = [np.median(part) if len(part) else np.nan for part in finite]
    np.testing.assert_array_equal(found, truth)


@given(series())
@settings(max_examples=200, deadline=None)
def test_marks_are_one_in_a_bucket_and_none_is_left_without(data):
    times, _, n = data
    span = (-5.0, 200.0)
    bucket = buckets(times, n, span)
    chosen = first_of_each(times, n, span)
    assert bucket[chosen].tolist() == sorted(set(bucket.tolist()))
    assert all((bucket[:i] != bucket[i]).all() for i in chosen)


def test_a_million_values_are_thinned_in_half_a_second():
    random = np.random.default_rng(0)
    values = random.normal(size=10**6)
    values[random.integers(0, 10**6, 1000)] = np.nan
    values[[123_456, 777_777]] = 50, -50
    times = np.arange(10**6) / 1e5
    began = time.process_time()
    kept = thin(times, values, 1000)
    assert time.process_time() - began < 0.5
    assert {123_456, 777_777} <= set(kept.tolist())
    assert len(kept) <= 5000
