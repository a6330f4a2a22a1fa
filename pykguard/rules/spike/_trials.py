"""The search for a rate, trial by trial."""

from __future__ import annotations

import math

from pykguard.rules.spike import _dead, _evidence, _levels, _progress, _search
from pykguard.rules.spike._returning import calmed, rolled_back
from pykguard.rules.spike._search import Broken, Search
from pykguard.rules.spike._types import Cause, Decision, Rejected, Seen, State, Watch
from pykguard.rules.spike._watching import looked_at


def begin_anew(state: State, cause: Cause, evidence: Rejected) -> tuple[State, Decision]:
    """Search for a rate from the initial state; what was reached until then is set aside."""
    # Where many losses were left out, those that were not say little.
    is_trusted = state.is_under_way and not _evidence.are_often_bad(state.n_seen, state.n_bad)
    is_best = is_trusted and cause != "some" and state.progress.best < state.aside
    aside = state.progress.best if is_best else state.aside
    state = state._replace(
        search=Search(), progress=_progress.Progress(), is_under_way=False, aside=aside
    )
    state, decision = next_trial(state, cause, evidence)
    return state, decision._replace(set_aside=is_best)


def in_trial(
    state: State, search: Search, seen: Seen, decision: Decision
) -> tuple[State, Decision]:
    """After a good batch of a trial: look at the kernels at its beginning, middle and end."""
    search = search._replace(losses=search.losses + seen.losses)
    state = state._replace(search=search)
    n = len(search.losses)
    if search.learning is None:  # the first look is at the initial state
        return looked_at(state, seen, n, 2, decision, apart=1)
    length = _search.length(seen.n_all)
    if not search.is_half_over:
        return looked_at(state, seen, n, length // 2, decision, apart=2)
    return looked_at(state, seen, n, length, decision)


def trial_half_over(
    state: State, search: Search, learning: tuple[int, ...]
) -> tuple[State, Decision]:
    """In the middle of a trial: abandon it if the network is dead."""
    if _kills(search, learning):
        return trial_over(state, search, learning)
    state = state._replace(search=search._replace(is_half_over=True))
    return state, Decision(scale=state.scale)


def trial_over(state: State, search: Search, learning: tuple[int, ...]) -> tuple[State, Decision]:
    """After a trial: try a lower rate while that helps, then take the best trial's.

    Args:
        state: The state.
        search: What runs.
        learning: How many units of each kernel learn at the trial's end.
    """
    end, initial = _search.end_of(search), _levels.initial_level(state.levels)
    evidence = Rejected(None, end, None if math.isinf(search.best) else search.best)
    if _kills(search, learning):  # a lower rate than one that trains kills nothing
        follow = next_trial if search.best_scale is None else _ended
        return follow(state, "dead", evidence)
    is_lower = _search.is_lower(search, initial)
    if not is_lower and search.is_again:
        return _take_best(state, "found", evidence)
    if not is_lower and not (_search.has_gained(search, initial) and _search.is_as_good(search)):
        return _ended(state, "trial", evidence)
    is_far_off = _search.is_far_off(search, initial)
    search = search._replace(best=end, best_scale=state.scale, best_losses=search.losses)
    state = state._replace(search=search)
    if is_lower:
        new, decision = next_trial(state, "trial", evidence, n=2 if is_far_off else 1)
    else:
        new, decision = _ended(state, "trial", evidence)
    return new, decision._replace(keep=("best",))


def next_trial(
    state: State, cause: Cause, evidence: Rejected, n: int = 1
) -> tuple[State, Decision]:
    """Try a rate that is lower by so many factors; after one that was tried again, the next one."""
    search = state.search
    assert search is not None
    if search.is_again:
        return _ended(state, cause, evidence)
    if cause in ("weights", "some"):
        broken = *search.broken, Broken(state.scale, evidence.n)
        state = state._replace(search=search._replace(broken=broken))
    scale = state.scale * _search.FACTOR**n
    if scale < _search.LEAST_SCALE:
        return _ended(state, cause, evidence)
    return _trial(state, scale, cause, evidence)


def _ended(state: State, cause: Cause, evidence: Rejected) -> tuple[State, Decision]:
    """After the last trial: try again what was given up in doubt; else take the best one's."""
    search = state.search
    assert search is not None
    in_doubt = [
        each for each in search.broken if _evidence.is_doubtful(state.n_seen, state.n_bad, each.n)
    ]
    if in_doubt:
        highest = max(in_doubt)
        broken = tuple(each for each in search.broken if each.scale < highest.scale)
        search = search._replace(is_again=True, broken=broken)
        cause = "again" if cause == "trial" else cause
        return _trial(state._replace(search=search), highest.scale, cause, evidence)
    if search.best_scale is not None:
        return _take_best(state, "found" if cause == "trial" else cause, evidence)
    state = calmed(state)._replace(search=None, standing="initial")
    state, decision = rolled_back(state, "exhausted", evidence, "initial")
    return state, decision._replace(stop=True)


def _trial(state: State, scale: float, cause: Cause, evidence: Rejected) -> tuple[State, Decision]:
    """Begin a trial of this rate, from the initial state."""
    assert state.search is not None
    state = calmed(state)._replace(
        search=state.search._replace(losses=(), learning=None, is_half_over=False),
        levels=_levels.started_over(state.levels),
        standing="initial",
        scale=scale,
        watch=Watch(n_marks=1),
    )
    state, decision = rolled_back(state, cause, evidence, "initial")
    return state, decision._replace(mark=0)


def _take_best(state: State, cause: Cause, evidence: Rejected) -> tuple[State, Decision]:
    search = state.search
    assert search is not None and search.best_scale is not None
    losses = search.best_losses
    if cause == "found":
        evidence = evidence._replace(reference=search.best)
    progress = _progress.Progress(last=losses[-_progress.ENOUGH :], best=search.best)
    state = calmed(state)._replace(
        search=None,
        progress=progress,
        levels=_levels.started_over(state.levels, losses[-_progress.SMOOTHED :]),
        standing="proven",
        scale=search.best_scale,
    )
    decision = Decision(
        cause,
        put_back="best",
        scale=state.scale,
        value=search.best,
        rejected=(evidence._replace(cause=cause),),
    )
    return state, decision


def _kills(search: Search, learning: tuple[int, ...]) -> bool:
    return _dead.is_dead(learning) or _dead.is_harmed(learning, search.learning or learning)
