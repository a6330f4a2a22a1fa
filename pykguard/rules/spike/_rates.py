"""Comparing the present rate with another one, from the same state."""

from __future__ import annotations

from pykguard.rules.spike import _comparison, _dead, _levels, _progress, _robust, _search
from pykguard.rules.spike._annealing import ANNEALED
from pykguard.rules.spike._comparison import Comparison
from pykguard.rules.spike._returning import unsuspected
from pykguard.rules.spike._trials import begin_anew
from pykguard.rules.spike._types import Cause, Decision, Rejected, Seen, State
from pykguard.rules.spike._watching import looked_at


def comparison_due(state: State, seen: Seen) -> Comparison | None:
    """The comparison of rates that begins with this batch.

    Only in a run that had trouble, and not at its end, where little is left. While the loss falls,
    and on a plateau that it has never left, with a higher rate; where it hovers, with a lower one,
    and after that has lost with a higher one.
    """
    length = _search.length(seen.n_all)
    if not state.had_trouble or state.n_annealed or not seen.kept:
        return None
    value = _progress.smoothed(state.progress)
    if value is None or state.since_compared < state.wait * length:
        return None
    left = ANNEALED[0] * seen.n_all + _comparison.LEFT * length
    if seen.n_left is not None and seen.n_left < left:
        return None
    initial = _levels.initial_level(state.levels)
    has_gained = value < initial - _search.GAIN * abs(initial)
    hovers = has_gained and _progress.hovers(state.progress)
    factor = min(_comparison.UP, state.ceiling / state.scale)
    if hovers and state.lost_factor >= 1.0:
        factor = _comparison.DOWN
    elif factor < _comparison.WORTH:
        return None
    has_time = seen.n_left is None or seen.n_left >= _comparison.ENOUGH * seen.n_all
    return Comparison(factor, hovers, state.scale, seen.losses, may_begin_anew=has_time)


def in_comparison(
    state: State, comparison: Comparison, seen: Seen, decision: Decision
) -> tuple[State, Decision]:
    """After a good batch of a comparison: look at the kernels at the end of either half."""
    if comparison.other is None:
        comparison = comparison._replace(first=comparison.first + seen.losses)
        n = len(comparison.first)
    else:
        comparison = comparison._replace(other=comparison.other + seen.losses)
        n = len(comparison.other or ())
    state = state._replace(comparison=comparison)
    return looked_at(state, seen, n, _search.length(seen.n_all), decision)


def half_compared(
    state: State, comparison: Comparison, learning: tuple[int, ...]
) -> tuple[State, Decision]:
    """After the batches at the present rate: as many at the other one from where they began.

    Unless the present rate has harmed the network, which then begins anew at a lower one.
    """
    is_harmed = state.units is not None and _dead.is_harmed(learning, state.units)
    if is_harmed and comparison.may_begin_anew:
        evidence = Rejected(None, _robust.typical(comparison.first), None)
        return begin_anew(state._replace(comparison=None), "harmed", evidence)
    state = unsuspected(state)._replace(
        comparison=comparison._replace(other=(), learning=learning),
        progress=_progress.interrupted(state.progress),
        standing="proven",
        scale=comparison.scale * comparison.factor,
    )
    return state, Decision("comparing", keep=("held",), put_back="start", scale=state.scale)


def comparison_over(
    state: State, comparison: Comparison, learning: tuple[int, ...]
) -> tuple[State, Decision]:
    """Take the other rate and what it has got to, or the present one."""
    other, first = map(_robust.typical, _comparison.ends(comparison))
    is_harmed = _dead.is_harmed(learning, comparison.learning, 1 - _comparison.MOST_LOST)
    if is_harmed or not _comparison.is_taken(comparison):
        return lost(state, comparison, Rejected(None, other, first))
    state = _settled(state, comparison.other or ())._replace(
        wait=_comparison.FIRST, lost_factor=1.0
    )
    cause: Cause = "raised" if comparison.factor > 1 else "lowered"
    return state, Decision(cause, scale=state.scale, value=other, reference=first)


def lost(state: State, comparison: Comparison, evidence: Rejected) -> tuple[State, Decision]:
    """Go on from where the present rate had got."""
    state = _settled(state, comparison.first)._replace(
        scale=comparison.scale,
        standing="proven",
        wait=max(2 * state.wait, _comparison.LOST),
        lost_factor=comparison.factor,
    )
    decision = Decision("compared", put_back="held", scale=state.scale)
    return state, decision._replace(value=evidence.value, reference=evidence.reference)


def _settled(state: State, losses: tuple[float, ...]) -> State:
    """With no comparison any more, but its losses."""
    progress = _progress.interrupted(state.progress)._replace(last=losses[-_progress.SMOOTHED :])
    return unsuspected(state)._replace(comparison=None, progress=progress, since_compared=0)
