"""The rule: accept a batch, undo it, or go back, and say whether data or rate are at fault."""

from __future__ import annotations

import math

from pykguard.rules.spike import _dead, _evidence, _levels, _limit, _progress, _robust
from pykguard.rules.spike._annealing import annealed, is_time_to_anneal
from pykguard.rules.spike._dead import Kernels
from pykguard.rules.spike._drift import LAST, check_drift, go_on_checking, is_rate
from pykguard.rules.spike._initial import (
    are_data_suspect,
    begin_data_check,
    check_data,
    check_first,
    first_suspect,
    is_first_suspect,
)
from pykguard.rules.spike._rates import (
    comparison_due,
    comparison_over,
    half_compared,
    in_comparison,
)
from pykguard.rules.spike._returning import joined, undone, unsuspected
from pykguard.rules.spike._trials import in_trial, trial_half_over, trial_over
from pykguard.rules.spike._trouble import has_got_anywhere, is_early, weights_at_fault
from pykguard.rules.spike._types import Decision, Options, Rejected, Seen, Slot, State, Watch
from pykguard.rules.spike._watching import LEAST_WAIT, MOST_WAIT, at_a_standstill

NEW_LEVEL = 16  # finite bad losses in a row at proven weights that are the data's new level
MOST_RUNNING = 128  # bad batches in a row at proven weights after which nothing helps


def step(options: Options, state: State, seen: Seen) -> tuple[State, Decision]:
    """Judge an execution, mostly of one batch."""
    return _limited(options, *_judged(options, state, seen))


def compared(options: Options, state: State, kernels: Kernels) -> tuple[State, Decision]:
    """Go on after the third look at the kernels, by how they moved in between."""
    return _limited(options, *_compared(options, state, kernels))


def _judged(options: Options, state: State, seen: Seen) -> tuple[State, Decision]:
    first = seen.losses[0]
    if state.standing == "initial" and seen.kept:
        if not state.levels.initial:
            state = state._replace(first_where=seen.where)
        state = state._replace(levels=_levels.add_initial(state.levels, first))
    n, was_kept = len(seen.losses), state.since_kept == 0
    state = state._replace(
        n_batches=state.n_batches + n,
        since_trouble=None if state.since_trouble is None else state.since_trouble + n,
        since_kept=0 if seen.kept else state.since_kept + n,
        n_seen=state.n_seen + 1,
    )
    if state.check is not None:
        return go_on_checking(options, state, first)
    if state.first_check is not None:
        return check_first(state, state.first_check, first)
    if state.data_check is not None:
        return check_data(options, state, state.data_check, seen)
    if not seen.weights_finite:
        return _broken(options, state, seen, was_kept)
    place = _first_bad(options, state, seen)
    if place is None:
        if not is_first_suspect(state, first):
            return _good(options, state, seen)
        if seen.kept:
            return first_suspect(state)
        state, decision = _good(options, state, seen)
        return state._replace(seems_off=True), decision
    state = state._replace(levels=_limit.without_doubtful(state.levels, options.threshold))
    median = _robust.middle(state.levels.ordered) if state.levels.ordered else None
    if median is None and state.levels.initial:
        median = _levels.initial_level(state.levels)
    evidence = Rejected(seen.where, seen.losses[place], median, weights_finite=seen.weights_finite)
    state = state._replace(n_running=state.n_running + 1)
    return _bad(options, state, seen, place, evidence)


def _compared(options: Options, state: State, kernels: Kernels) -> tuple[State, Decision]:
    search, comparison, learning = state.search, state.comparison, _dead.n_learning(kernels)
    if search is not None:
        state = state._replace(watch=Watch())
        if search.learning is None:
            moved_first = _dead.n_moved_first(kernels)
            state = state._replace(search=search._replace(learning=moved_first), units=moved_first)
            return state, Decision(scale=state.scale)
        follow = trial_over if search.is_half_over else trial_half_over
        return follow(state, search, learning)
    if comparison is not None:
        state = state._replace(watch=Watch())
        if comparison.other is None:
            return half_compared(state, comparison, learning)
        return comparison_over(state, comparison, learning)
    if not _dead.is_dead(learning):
        wait = min(2 * max(state.watch.wait, LEAST_WAIT), MOST_WAIT)
        return state._replace(watch=Watch(wait=wait)), Decision(scale=state.scale)
    value = _progress.smoothed(state.progress)
    evidence = Rejected(None, math.nan if value is None else value, None)
    return weights_at_fault(options, state, "dead", evidence)


def moved(state: State) -> State:
    """After somebody else put another state into the model, which is taken for a proven one."""
    return unsuspected(state)._replace(
        progress=_progress.Progress(),
        search=None,
        check=None,
        first_check=None,
        data_check=None,
        comparison=None,
        standing="proven",
        aside=math.inf,
    )


def at_end(state: State, weights_finite: bool) -> Slot | None:
    """What to put back when training ends; None where the last state is to stay."""
    search = state.search
    if state.aside < _reached(state):
        return "aside"
    if search is not None and search.best_scale is not None:
        value = _progress.smoothed(state.progress)
        if value is None or value > search.best:
            return "best"
    if state.check is not None:
        return "best" if is_rate(state, state.check) else "drifted"
    if state.first_check is not None or state.data_check is not None:
        return "suspect"
    if state.comparison is not None and state.comparison.other is not None:
        return "held"
    if not weights_finite or state.pending:
        return "proven"
    return None


def _reached(state: State) -> float:
    """The smoothed loss that training has got to."""
    value = _progress.smoothed(state.progress)
    value = state.progress.best if value is None else value
    return value if state.search is None else min(value, state.search.best)


def _good(options: Options, state: State, seen: Seen) -> tuple[State, Decision]:
    if state.is_back:  # so it is not the data; look once more at the weights
        state = state._replace(is_back=False, is_retry=True, standing="unproven")
        return state, Decision("unclear", put_back="suspect", scale=state.scale)
    settled = tuple(each._replace(cause="data") for each in state.pending)
    n_broken = state.n_broken if state.standing == "unproven" else 0
    n_bad = state.n_bad + len(settled) + state.n_within + n_broken
    n_far = state.n_far + sum(_limit.is_far(state.levels, each.value) for each in settled)
    levels, progress = state.levels, state.progress
    is_in_doubt = _limit.is_in_doubt(levels, seen.losses[0], options.threshold)
    for loss in seen.losses:
        levels = _levels.add(levels, loss, options.window)
        progress = _progress.add(progress, loss)
    state = state._replace(
        levels=levels,
        progress=progress,
        n_bad=n_bad,
        n_far=n_far,
        standing="unproven",
        is_retry=False,
        pending=(),
        bad_at_proven=(),
        n_running=0,
        n_within=0,
        n_broken=state.n_broken - n_broken,
        last_where=seen.where,
        since_compared=state.since_compared + len(seen.losses),
        is_under_way=state.is_under_way or has_got_anywhere(options, state),
    )
    decision = Decision(scale=state.scale, rejected=settled)
    if seen.kept and not is_in_doubt:
        decision = decision._replace(keep=("proven",))
    if settled and seen.kept and are_data_suspect(state):
        return begin_data_check(state, decision)
    if state.search is not None:
        return in_trial(state, state.search, seen, decision)
    if state.comparison is not None:
        return in_comparison(state, state.comparison, seen, decision)
    value = _progress.smoothed(progress)
    if value is not None and not state.is_under_way and math.isinf(progress.best):
        progress = progress._replace(
            best=_levels.initial_level(levels)
        )  # the best state is initial
        state = state._replace(progress=progress)
    seems_to_drift = False
    if value is not None and value < progress.best:
        if seen.kept and not _progress.is_high(progress, seen.losses[0]):
            state = state._replace(progress=_progress.improved(progress, value))
            decision = decision._replace(keep=("proven", "best"))
    elif value is not None:
        initial = _levels.initial_level(levels)
        at_the_end = seen.n_left is not None and seen.n_left <= LAST
        has_drifted = _progress.has_drifted(progress, value, initial, at_the_end)
        if has_drifted and seen.kept:
            evidence = Rejected(seen.where, value, progress.best)
            state = state._replace(seems_off=False)
            state, other = check_drift(state, value, evidence, seen.n_left)
            return state, joined(decision, other)
        seems_to_drift = has_drifted
    if state.seems_off != seems_to_drift:
        state = state._replace(seems_off=seems_to_drift)
    if is_time_to_anneal(state, seen):
        return annealed(state, decision)
    comparison = comparison_due(state, seen)
    if comparison is not None:
        state = state._replace(comparison=comparison, watch=Watch())
        return state, decision._replace(keep=(*decision.keep, "start"))
    return at_a_standstill(state, seen, decision)


def _first_bad(options: Options, state: State, seen: Seen) -> int | None:
    is_calm = state.since_trouble is None
    following = (*seen.losses[1:], seen.following)
    for place, (loss, after) in enumerate(zip(seen.losses, following, strict=True)):
        if _limit.is_bad(
            state.levels,
            loss,
            options.threshold,
            options.warmup,
            following=after,
            is_calm=is_calm,
        ):
            return place
    return None


def _bad(
    options: Options, state: State, seen: Seen, place: int, evidence: Rejected
) -> tuple[State, Decision]:
    if not seen.kept:  # go back to what was kept, from where each state is kept
        state = state._replace(
            standing="proven",
            since_trouble=0,
            progress=_progress.interrupted(state.progress),
        )
        return state, undone(state, "proven", evidence, settled=True)
    if state.standing != "unproven" or place > 0:
        return _bad_at_proven(options, state, seen, place, evidence)
    pending = (*state.pending, evidence)
    if state.is_retry:
        evidence = pending[0]._replace(n=len(pending))
        return weights_at_fault(options, state, "weights", evidence)
    state = state._replace(pending=pending, since_trouble=0)
    need = _evidence.needed(state.n_seen, state.n_bad, evidence.value)
    if len(pending) < need:
        return state, undone(state, "before", evidence)
    early = is_early(state)
    state = state._replace(is_back=True, standing="initial" if early else "proven")
    decision = undone(state, "initial" if early else "proven", evidence)
    return state, decision._replace(keep=("suspect",))


def _broken(options: Options, state: State, seen: Seen, was_kept: bool) -> tuple[State, Decision]:
    """The weights are not finite: the batch before has left them so, though its loss was good.

    Its data may hold a NaN that does not reach the loss: TensorFlow's ReLU makes it 0 on some
    processors.
    If that goes on with one batch after the other, it is the rate.
    """
    losses = state.progress.last
    value = losses[-1] if losses else seen.losses[0]
    evidence = Rejected(state.last_where or seen.where, value, None, weights_finite=False)
    n = state.n_broken + 1
    if n >= _evidence.needed(state.n_seen, state.n_bad, math.nan):
        return weights_at_fault(options, state, "weights", evidence._replace(n=n))
    state = state._replace(
        standing="proven",
        is_back=False,
        is_retry=False,
        pending=(),
        n_broken=n,
        since_trouble=0,
    )
    evidence = evidence._replace(cause="data" if was_kept else "unclear")
    return state, undone(state, "proven", evidence, settled=True)


def _bad_at_proven(
    options: Options, state: State, seen: Seen, place: int, evidence: Rejected
) -> tuple[State, Decision]:
    """The data are bad, unless it goes on and on."""
    if place > 0:
        n = state.n_within + 1
        if n >= _evidence.needed(state.n_seen, state.n_bad, evidence.value):
            return weights_at_fault(options, state, "weights", evidence._replace(n=n))
        state = state._replace(standing="proven", n_within=n)
    finite = state.bad_at_proven
    if math.isfinite(evidence.value):
        finite = (*finite, evidence.value)
    data = evidence._replace(cause="data")
    state = state._replace(
        bad_at_proven=finite,
        n_bad=state.n_bad + (place == 0),
        n_far=state.n_far + (place == 0 and _limit.is_far(state.levels, evidence.value)),
        since_trouble=0,
    )
    keep: tuple[Slot, ...] = ("proven",) if place > 0 else ()
    if len(finite) >= NEW_LEVEL and state.standing == "proven":
        state = state._replace(
            levels=_levels.started_over(state.levels, finite),
            progress=_progress.Progress(),
            bad_at_proven=(),
            is_back=False,
            is_retry=False,
            pending=(),
            n_running=0,
        )
        level = evidence._replace(cause="level")
        return state, undone(state, "before", level, settled=True)._replace(keep=("best",))
    if state.n_running >= MOST_RUNNING:
        decision = undone(state, "before", evidence._replace(cause="all bad"), settled=True)
        return state, decision._replace(stop=True, cause="all bad", put_back=_safe(state))
    return state, undone(state, "before", data, settled=True)._replace(keep=keep)


def _limited(options: Options, state: State, decision: Decision) -> tuple[State, Decision]:
    """Count what was rolled back, and stop where `max_rollbacks` allows no more."""
    if decision.rejected:
        state = state._replace(n_rollbacks=state.n_rollbacks + len(decision.rejected))
    most = options.max_rollbacks
    if most is None or decision.stop or state.n_rollbacks < most:
        return state, decision
    slot: Slot = "aside" if state.aside < _reached(state) else _safe(state)
    state = state._replace(
        search=None,
        check=None,
        first_check=None,
        data_check=None,
        comparison=None,
        pending=(),
        is_back=False,
    )
    return state, decision._replace(cause="max_rollbacks", stop=True, put_back=slot, mark=None)


def _safe(state: State) -> Slot:
    """The state to be left with where nothing helps."""
    search = state.search
    if search is not None and search.best_scale is None:
        return "initial"
    return "initial" if math.isinf(state.progress.best) and search is None else "best"
