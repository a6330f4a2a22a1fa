import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykguard.rules import best, revert
from pykguard.rules._comparison import is_better, is_worse

special = st.sampled_from([math.nan, math.inf, -math.inf])
anything = st.one_of(special, st.floats())
finite = st.floats(allow_nan=False, allow_infinity=False)
modest = st.integers(-8, 8).map(float)
values = st.lists(st.one_of(st.none(), anything, modest, modest), max_size=20)
directions = st.sampled_from(["min", "max"])
slacks = st.sampled_from([0.0, 0.5, 1.0, 2.0])


@st.composite
def options(draw, **fixed):
    drawn = {
        "direction": draw(directions),
        "tolerance": draw(slacks),
        "relative_tolerance": draw(st.sampled_from([0.0, 0.25, 0.5])),
        "reference": draw(st.sampled_from(["best", "previous"])),
        "patience": draw(st.integers(0, 3)),
        "max_reverts": draw(st.one_of(st.none(), st.integers(1, 4))),
        "start_from_epoch": draw(st.integers(0, 4)),
        "go_back_to": draw(st.sampled_from(["accepted", "best"])),
    }
    return revert.Options(**{**drawn, **fixed})


def run(chosen, trace):
    """The states and decisions of a run, which ends where a decision says so."""
    state, seen = revert.State(), []
    for epoch, value in enumerate(trace):
        state, decision = revert.step(chosen, state, revert.Seen(epoch, value))
        seen.append((state, decision))
        if decision.stop:
            break
    return seen


def no_worse(direction, value, than):
    return value <= than if direction == "min" else value >= than


@given(options(), values)
def test_a_value_that_is_not_finite_is_never_best(chosen, trace):
    for state, _ in run(chosen, trace):
        assert state.best is None or math.isfinite(state.best)
        assert state.previous is None or math.isfinite(state.previous)


@given(options(), values)
def test_a_value_that_is_not_finite_is_reverted_at_once(chosen, trace):
    for (_, decision), value in zip(run(chosen, trace), trace, strict=False):
        if value is not None and not math.isfinite(value):
            assert decision.action == "revert"


@given(options(), values, finite)
def test_weights_that_are_not_finite_are_reverted_at_once(chosen, trace, value):
    seen = run(chosen, trace)
    state = seen[-1][0] if seen else revert.State()
    _, decision = revert.step(chosen, state, revert.Seen(len(trace), value, weights_finite=False))
    assert decision.action == "revert" and not decision.keep


@given(options(), values)
def test_the_best_value_only_gets_better(chosen, trace):
    bests = [state.best for state, _ in run(chosen, trace) if state.best is not None]
    for earlier, later in pairwise(bests):
        assert no_worse(chosen.direction, later, earlier)


@given(options(tolerance=0.0, relative_tolerance=0.0, reference="best", start_from_epoch=0), values)
def test_without_tolerance_the_kept_epochs_never_get_worse(chosen, trace):
    kept = [trace[s.kept_epoch] for s, _ in run(chosen, trace) if s.kept_epoch >= 0]
    for earlier, later in pairwise(kept):
        assert no_worse(chosen.direction, later, earlier)


@given(options(start_from_epoch=0, reference="best"), values)
def test_a_finite_value_is_accepted_iff_it_is_within_the_tolerance_of_the_best(chosen, trace):
    best_so_far = None
    choose = min if chosen.direction == "min" else max
    for (_, decision), value in zip(run(chosen, trace), trace, strict=False):
        if value is None or not math.isfinite(value):
            continue
        within = True
        if best_so_far is not None:
            slack = max(chosen.tolerance, chosen.relative_tolerance * abs(best_so_far))
            edge = best_so_far + (slack if chosen.direction == "min" else -slack)
            within = no_worse(chosen.direction, value, edge)
        assert (decision.action == "accept") == within
        if within:
            best_so_far = value if best_so_far is None else choose(best_so_far, value)


@given(options(start_from_epoch=0), values)
def test_the_best_epoch_is_the_first_that_had_the_best_value(chosen, trace):
    for epoch, (state, _) in enumerate(run(chosen, trace)):
        if state.best is not None:
            accepted = [i for i in range(epoch + 1) if trace[i] == state.best]
            assert state.best_epoch == accepted[0]


@given(options(), values)
def test_the_best_state_is_the_kept_one_where_the_guard_goes_back_to_the_best(chosen, trace):
    for state, _ in run(chosen._replace(go_back_to="best"), trace):
        if state.best is not None:
            assert state.kept_epoch == state.best_epoch


@given(options(), values)
def test_equal_inputs_give_equal_decisions(chosen, trace):
    assert repr(run(chosen, trace)) == repr(run(chosen, list(trace)))


@given(options(), values)
def test_maximising_mirrors_minimising(chosen, trace):
    other = "max" if chosen.direction == "min" else "min"
    mirrored = [None if value is None else -value for value in trace]
    there = run(chosen, trace)
    back = run(chosen._replace(direction=other), mirrored)
    assert [(d.action, d.stop, d.restored_from) for _, d in there] == [
        (d.action, d.stop, d.restored_from) for _, d in back
    ]
    assert [s.best_epoch for s, _ in there] == [s.best_epoch for s, _ in back]


@given(options(), values)
def test_there_are_never_more_reverts_than_allowed(chosen, trace):
    seen = run(chosen, trace)
    n_reverts = [d.action for _, d in seen].count("revert")
    if chosen.max_reverts is not None:
        assert n_reverts <= chosen.max_reverts
        assert any(d.stop for _, d in seen) == (n_reverts == chosen.max_reverts)
    assert not seen or seen[-1][0].n_reverts == n_reverts


@given(options(), values)
def test_no_more_epochs_in_a_row_pass_than_patience_says(chosen, trace):
    passes = 0
    for _, decision in run(chosen, trace):
        if decision.action == "pass":
            passes += 1
            assert passes <= chosen.patience
        elif decision.action != "skip":
            passes = 0


@given(options(), values)
def test_a_revert_goes_back_to_an_epoch_that_was_accepted(chosen, trace):
    accepted = {revert.INITIAL}
    for epoch, (_, decision) in enumerate(run(chosen, trace)):
        if decision.action == "revert":
            assert decision.restored_from in accepted
        if decision.keep:
            accepted.add(epoch)


@given(directions, anything, finite, st.floats(0, 1e30))
def test_worse_and_better_exclude_each_other(direction, value, other, allowed):
    assert not (is_worse(direction, value, other, allowed) and is_better(direction, value, other))


@given(finite, finite, slacks)
def test_a_worse_value_never_improves_whatever_its_sign(value, reference, delta):
    assert not (value >= reference and is_better("min", value, reference, delta))
    assert not (value <= reference and is_better("max", value, reference, delta))


@given(finite, st.sampled_from([0.0, 0.1, 1.0]), directions)
def test_equal_is_neither_worse_nor_better(value, allowed, direction):
    assert not is_worse(direction, value, value, allowed)
    assert not is_better(direction, value, value, allowed)


@pytest.mark.parametrize("direction", ["min", "max"])
@given(reference=st.one_of(finite, st.none()))
def test_nan_is_better_than_nothing_and_worse_than_anything(direction, reference):
    assert not is_better(direction, math.nan, reference)
    assert reference is None or is_worse(direction, math.nan, reference, 1e300)


@given(directions, values, st.integers(0, 4))
def test_restore_best_finds_the_first_best_of_the_finite_values(direction, trace, start):
    state = best.State()
    for epoch, value in enumerate(trace):
        state, _ = best.step(best.Options(direction, 0.0, start), state, epoch, value)
    judged = [(v, i) for i, v in enumerate(trace) if v is not None and math.isfinite(v)]
    judged = [(v if direction == "min" else -v, i) for v, i in judged if i >= start]
    expected = min(judged, default=(None, None))[1]
    assert state.best_epoch == expected


@given(directions, values, slacks)
def test_restore_best_moves_only_by_more_than_min_delta(direction, trace, delta):
    state = best.State()
    for epoch, value in enumerate(trace):
        before = state.best
        state, improved = best.step(best.Options(direction, delta, 0), state, epoch, value)
        if improved and before is not None:
            edge = before - delta if direction == "min" else before + delta
            assert state.best != edge and no_worse(direction, state.best, edge)
        if not improved:
            assert state.best == before


@given(directions, finite)
def test_restore_best_refuses_weights_that_are_not_finite(direction, value):
    state, improved = best.step(best.Options(direction), best.State(), 0, value, False)
    assert not improved and state.best is None
