"""What follows once the weights, and so the rate, are at fault."""

from __future__ import annotations

import math

from pykguard.rules.spike import _comparison, _dead, _evidence, _limit, _progress, _search
from pykguard.rules.spike._comparison import Comparison
from pykguard.rules.spike._search import Broken, Search
from pykguard.rules.spike._types import (
    Cause,
    Check,
    Decision,
    Options,
    Rejected,
    Slot,
    State,
    Watch,
)

CHECKS, MOST_CHECKS = 5, 40  # finite losses at either state that verify a drift; batches for it

BEYOND_CHANCE = 2.5  # standard errors
LOWER = 1.5  # times what is measured at the best state: the drifted one is worse, whatever the data


def is_early(state: State) -> bool:
    """Whether nothing would be lost by going back to the initial state."""
    return state.search is not None or not state.is_under_way


def has_got_anywhere(options: Options, state: State) -> bool:
    """Whether training has, beyond its warm-up."""
    initial = _limit.initial_level(state.levels)
    is_warm = state.n_batches > options.warmup
    return is_warm and _progress.has_got_anywhere(state.progress, initial)


def weights_at_fault(
    options: Options, state: State, cause: Cause, evidence: Rejected
) -> tuple[State, Decision]:
    """Cut the rate: in a search by its next trial, early by a search, later from the best state."""
    if state.search is not None:
        return _next_trial(state, cause, evidence)
    comparison, state = state.comparison, state._replace(comparison=None)
    if comparison is not None and comparison.other is not None:
        return _lost(state, comparison, evidence)
    if cause in ("dead", "some") or is_early(state):
        return _begin_anew(state, cause, evidence)
    state = _calmed(state)._replace(
        standing="proven",
        scale=state.scale * options.lr_factor,
        ceiling=min(state.ceiling, _comparison.CEILING * state.scale),
        wait=max(2 * state.wait, _comparison.LATE),
    )
    return _rolled_back(state, cause, evidence, "best")


def _begin_anew(state: State, cause: Cause, evidence: Rejected) -> tuple[State, Decision]:
    """Search for a rate from the initial state; what was reached until then is set aside."""
    is_trusted = (
        state.is_under_way and cause != "some"
    )  # where losses were left out, they say little
    is_best = is_trusted and state.progress.best < state.aside
    aside = state.progress.best if is_best else state.aside
    state = state._replace(
        search=Search(), progress=_progress.Progress(), is_under_way=False, aside=aside
    )
    state, decision = _next_trial(state, cause, evidence)
    return state, decision._replace(set_aside=is_best)


def check_drift(state: State, value: float, evidence: Rejected) -> tuple[State, Decision]:
    """Put back the best state, to see whether the losses there are as high as after it."""
    state = state._replace(check=Check(value, evidence.where), standing="proven")
    decision = Decision("checking", put_back="best", scale=state.scale, value=value)
    return state, decision._replace(keep=("drifted",))


def go_on_checking(options: Options, state: State, loss: float) -> tuple[State, Decision]:
    """Measure at the best and at the drifted state by turns, undoing each update.

    By turns, since the data may become harder or easier meanwhile.
    """
    check = state.check
    assert check is not None
    is_at_best = check.n % 2 == 0
    if math.isfinite(loss):
        losses = (*(check.at_best if is_at_best else check.at_drifted), loss)
        check = check._replace(at_best=losses) if is_at_best else check._replace(at_drifted=losses)
    check = check._replace(n=check.n + 1)
    state = state._replace(check=check)
    has_enough = min(len(check.at_best), len(check.at_drifted)) >= CHECKS
    is_open = not has_enough or (is_rate(state, check) and not _is_clear(state, check))
    if is_open and check.n < MOST_CHECKS:
        slot: Slot = "drifted" if is_at_best else "best"
        return state, Decision("checking", put_back=slot, scale=state.scale)
    return _drift_checked(options, state, check)


def _drift_checked(options: Options, state: State, check: Check) -> tuple[State, Decision]:
    """Say which it was: the rate, or the data, so that training goes on where it was."""
    best, at_best = state.progress.best, _median(check.at_best)
    state = state._replace(check=None)
    if is_rate(state, check) and _is_clear(state, check):
        evidence = Rejected(check.where, check.drifted, best)
        return weights_at_fault(options, state, "drift", evidence)
    is_high = at_best > 0.5 * (best + check.drifted)
    level = max(best, min(at_best, check.drifted)) if is_high else best
    progress = _progress.Progress(best=level, allowed=check.drifted)
    state = state._replace(progress=progress, standing="proven", since_trouble=0)
    return state, Decision(
        "drift is data",
        put_back="drifted",
        scale=state.scale,
        value=check.drifted,
        reference=at_best,
    )


def is_rate(state: State, check: Check) -> bool:
    """Whether losses are high at the drifted state only, by what was measured so far."""
    between = 0.5 * (state.progress.best + check.drifted)
    at_best, at_drifted = _median(check.at_best), _median(check.at_drifted)
    return at_drifted > between and (at_best <= between or at_drifted > LOWER * at_best)


def _is_clear(state: State, check: Check) -> bool:
    """Whether the losses at the drifted state are higher beyond chance: their medians' cube roots.

    The standard error of a median of `n` normal values is 1.25 / sqrt(n) times their deviation.
    """
    n = min(len(check.at_best), len(check.at_drifted))
    if n == 0:
        return True
    roots = sorted(map(_limit.root, state.progress.last))
    error = 1.25 * _limit.spread(roots, _limit.middle(roots)) * math.sqrt(2 / n)
    rise = _limit.root(_median(check.at_drifted)) - _limit.root(_median(check.at_best))
    return rise > BEYOND_CHANCE * error


def half_compared(
    state: State, comparison: Comparison, learning: tuple[int, ...]
) -> tuple[State, Decision]:
    """After the batches at the present rate: as many at the other one from where they began.

    Unless the present rate has harmed the network, which then begins anew at a lower one.
    """
    is_harmed = state.units is not None and _dead.is_harmed(learning, state.units)
    if is_harmed and comparison.may_begin_anew:
        evidence = Rejected(None, _median(comparison.first), None)
        return _begin_anew(state._replace(comparison=None), "harmed", evidence)
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
    other, first = map(_limit.typical, _comparison.ends(comparison))
    is_harmed = _dead.is_harmed(learning, comparison.learning, 1 - _comparison.MOST_LOST)
    if is_harmed or not _comparison.is_taken(comparison):
        return _lost(state, comparison, Rejected(None, other, first))
    state = _settled(state, comparison.other or ())._replace(
        wait=_comparison.FIRST, lost_factor=1.0
    )
    cause: Cause = "raised" if comparison.factor > 1 else "lowered"
    return state, Decision(cause, scale=state.scale, value=other, reference=first)


def _lost(state: State, comparison: Comparison, evidence: Rejected) -> tuple[State, Decision]:
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


def _median(losses: tuple[float, ...]) -> float:
    return _limit.typical(losses) if losses else math.inf


def trial_half_over(
    state: State, search: Search, learning: tuple[int, ...]
) -> tuple[State, Decision]:
    """In the middle of a trial: abandon it if the network is dead."""
    if _kills(search, learning):
        return trial_over(state, search, learning)
    state = state._replace(search=search._replace(is_half_over=True))
    return state, Decision(scale=state.scale)


def _kills(search: Search, learning: tuple[int, ...]) -> bool:
    return _dead.is_dead(learning) or _dead.is_harmed(learning, search.learning or learning)


def trial_over(state: State, search: Search, learning: tuple[int, ...]) -> tuple[State, Decision]:
    """After a trial: try a lower rate while that helps, then take the best trial's.

    Args:
        state: The state.
        search: What runs.
        learning: How many units of each kernel learn at the trial's end.
    """
    end, initial = _search.end_of(search), _limit.initial_level(state.levels)
    evidence = Rejected(None, end, None if math.isinf(search.best) else search.best)
    if _kills(search, learning):  # a lower rate than one that trains kills nothing
        follow = _next_trial if search.best_scale is None else _ended
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
        new, decision = _next_trial(state, "trial", evidence, n=2 if is_far_off else 1)
    else:
        new, decision = _ended(state, "trial", evidence)
    return new, decision._replace(keep=("best",))


def _next_trial(
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
    state = _calmed(state)._replace(search=None, standing="initial")
    state, decision = _rolled_back(state, "exhausted", evidence, "initial")
    return state, decision._replace(stop=True)


def _trial(state: State, scale: float, cause: Cause, evidence: Rejected) -> tuple[State, Decision]:
    """Begin a trial of this rate, from the initial state."""
    assert state.search is not None
    state = _calmed(state)._replace(
        search=state.search._replace(losses=(), learning=None, is_half_over=False),
        levels=_limit.started_over(state.levels),
        standing="initial",
        scale=scale,
        watch=Watch(n_marks=1),
    )
    state, decision = _rolled_back(state, cause, evidence, "initial")
    return state, decision._replace(mark=0)


def _take_best(state: State, cause: Cause, evidence: Rejected) -> tuple[State, Decision]:
    search = state.search
    assert search is not None and search.best_scale is not None
    losses = search.best_losses
    if cause == "found":
        evidence = evidence._replace(reference=search.best)
    progress = _progress.Progress(last=losses[-_progress.ENOUGH :], best=search.best)
    state = _calmed(state)._replace(
        search=None,
        progress=progress,
        levels=_limit.started_over(state.levels, losses[-_progress.SMOOTHED :]),
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


def _rolled_back(
    state: State, cause: Cause, evidence: Rejected, slot: Slot
) -> tuple[State, Decision]:
    decision = Decision(
        cause,
        put_back=slot,
        scale=state.scale,
        value=evidence.value,
        reference=evidence.reference,
        rejected=(evidence._replace(cause=cause),),
    )
    return state, decision


def _calmed(state: State) -> State:
    """After the weights were found at fault: what was suspected is settled."""
    progress = _progress.interrupted(state.progress)
    return unsuspected(state)._replace(
        progress=progress, had_trouble=True, since_trouble=0, since_compared=0
    )


def unsuspected(state: State) -> State:
    """With nothing that is suspected, of the data or of the weights."""
    return state._replace(
        watch=Watch(),
        is_back=False,
        is_retry=False,
        pending=(),
        bad_at_proven=(),
        n_running=0,
        n_within=0,
        n_broken=0,
    )
