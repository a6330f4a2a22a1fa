"""The rule: accept a batch, undo it, or go back, and say whether data or rate are at fault."""

from __future__ import annotations

import math

from pykguard.rules.spike import _comparison, _dead, _evidence, _limit, _progress, _search
from pykguard.rules.spike._comparison import Comparison
from pykguard.rules.spike._dead import Kernels
from pykguard.rules.spike._search import Search
from pykguard.rules.spike._trouble import (
    CHECKS,
    check_drift,
    comparison_over,
    go_on_checking,
    half_compared,
    trial_half_over,
    has_got_anywhere,
    is_early,
    is_rate,
    trial_over,
    unsuspected,
    weights_at_fault,
)
from pykguard.rules.spike._types import (
    DataCheck,
    Decision,
    FirstCheck,
    Options,
    Rejected,
    Seen,
    Slot,
    State,
    Watch,
)

NEAR = 64  # batches after trouble for which every state is kept
EARLY = 16  # batches until which thrice as many lie between two states as before them
APART = 4  # batches between two looks at the kernels
APART_AT_END = 8  # and between two states at the end of a training
LEAST_WAIT, MOST_WAIT = 32, 1024
LAST = 2 * CHECKS + 2  # batches of training in which the last drift can still be verified
TOGETHER = 8  # batches that are judged together in calm
MOST_ANEW = 1
MOST_DATA_CHECKS = 2
SURE = 5  # losses at the initial state that are as high as the first one: more than a tenth of it
AS_HIGH = 10.0
ANNEALED = (0.1, 0.03)  # shares of the training that are left when the rate is lowered for its end
OFTEN = 0.1  # of the batches: bad data
NEW_LEVEL = 16  # finite bad losses in a row at proven weights that are the data's new level
MOST_RUNNING = 128  # bad batches in a row at proven weights after which nothing helps


def is_due(options: Options, state: State, n_left: int | None = None) -> bool:
    """Whether to keep the state before the next batch, after which `n_left` are to come."""
    return _is_watched(state) or _until_due(options, state, state.since_kept + 1, n_left) <= 0


def _is_watched(state: State) -> bool:
    """Whether every state is kept, in trouble and in the batches after it."""
    return (
        state.search is not None
        or state.check is not None
        or state.first_check is not None
        or state.data_check is not None
        or state.comparison is not None
        or bool(state.pending)
        or state.seems_off
        or (state.since_trouble is not None and state.since_trouble < NEAR)
    )


def _until_due(options: Options, state: State, since: int, n_left: int | None) -> int:
    """Batches to the next state that is due in calm, when one was kept `since` batches ago.

    The first ones are kept before the batches 0, 1, 4 and 16.
    """
    last = state.n_batches - since
    most = options.interval
    if last < EARLY:
        most = min(most, max(1, 3 * last))
    if n_left is not None and n_left <= LAST:
        most = min(most, APART_AT_END)
    return most - since


def together(options: Options, state: State, n_left: int | None) -> int:
    """How many of the next batches may be judged together, when `n_left` are to come.

    In calm a batch that is bad takes training back by some batches in any case. At most the state
    before the first of them is kept, and the kernels are looked at after the last one at most.
    """
    if n_left is None or state.standing != "unproven" or _is_watched(state):
        return 1
    since = state.since_kept + 1
    until_state = _until_due(options, state, since, n_left)
    if until_state <= 0:
        until_state = _until_due(options, state, 0, n_left)
    watch, since_best = state.watch, state.progress.since_best
    until_look = max(_wait(watch) - watch.since, LEAST_WAIT - since_best)
    return max(1, min(TOGETHER, until_state, until_look, n_left - LAST - 1))


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
        state = state._replace(levels=_limit.add_initial(state.levels, first))
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
        return _check_first(state, state.first_check, first)
    if state.data_check is not None:
        return _check_data(options, state, state.data_check, seen)
    if not seen.weights_finite:
        return _broken(options, state, seen, was_kept)
    place = _first_bad(options, state, seen)
    if place is None:
        if not _is_first_suspect(state, first):
            return _good(options, state, seen)
        if seen.kept:
            return _first_suspect(state)
        state, decision = _good(options, state, seen)
        return state._replace(seems_off=True), decision
    median = _limit.middle(state.levels.ordered) if state.levels.ordered else None
    if median is None and state.levels.initial:
        median = _limit.initial_level(state.levels)
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


def warmed(state: State) -> State:
    """When training has ended: with the rate as it was before it was lowered for that, or tried."""
    if state.comparison is not None:
        state = state._replace(scale=state.comparison.scale)
    return state._replace(scale=state.scale / _search.FACTOR**state.n_annealed, n_annealed=0)


def _reached(state: State) -> float:
    """The smoothed loss that training has got to."""
    value = _progress.smoothed(state.progress)
    value = state.progress.best if value is None else value
    return value if state.search is None else min(value, state.search.best)


# ---------------------------------------------------------------- good batches
def _good(options: Options, state: State, seen: Seen) -> tuple[State, Decision]:
    if state.is_back:  # so it is not the data; look once more at the weights
        state = state._replace(is_back=False, is_retry=True, standing="unproven")
        return state, Decision("unclear", put_back="suspect", scale=state.scale)
    settled = tuple(each._replace(cause="data") for each in state.pending)
    n_broken = state.n_broken if state.standing == "unproven" else 0
    n_bad = state.n_bad + len(settled) + state.n_within + n_broken
    n_far = state.n_far + sum(_limit.is_far(state.levels, each.value) for each in settled)
    levels, progress = state.levels, state.progress
    for loss in seen.losses:
        levels = _limit.add(levels, loss, options.window)
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
    if seen.kept:
        decision = decision._replace(keep=("proven",))
    if settled and seen.kept and _are_data_suspect(state):
        return _begin_data_check(state, decision)
    if state.search is not None:
        return _in_trial(state, state.search, seen, decision)
    if state.comparison is not None:
        return _in_comparison(state, state.comparison, seen, decision)
    value = _progress.smoothed(progress)
    if value is not None and not state.is_under_way and math.isinf(progress.best):
        progress = progress._replace(best=_limit.initial_level(levels))  # the best state is initial
        state = state._replace(progress=progress)
    seems_to_drift = False
    if value is not None and value < progress.best:
        if seen.kept and seen.losses[0] <= value:  # so that the state itself is as good
            state = state._replace(progress=_progress.improved(progress, value))
            decision = decision._replace(keep=("proven", "best"))
    elif value is not None:
        initial = _limit.initial_level(levels)
        at_the_end = seen.n_left is not None and seen.n_left <= LAST
        has_drifted = _progress.has_drifted(progress, value, initial, at_the_end)
        if has_drifted and seen.kept:
            evidence = Rejected(seen.where, value, progress.best)
            state, other = check_drift(state._replace(seems_off=False), value, evidence)
            return state, _joined(decision, other)
        seems_to_drift = has_drifted
    if state.seems_off != seems_to_drift:
        state = state._replace(seems_off=seems_to_drift)
    if _is_time_to_anneal(state, seen):
        return _annealed(state, decision)
    comparison = _comparison_due(state, seen)
    if comparison is not None:
        state = state._replace(comparison=comparison, watch=Watch())
        return state, decision._replace(keep=(*decision.keep, "start"))
    return _at_a_standstill(state, seen, decision)


def _joined(good: Decision, trouble: Decision) -> Decision:
    return trouble._replace(
        keep=(*good.keep, *trouble.keep), rejected=(*good.rejected, *trouble.rejected)
    )


def _in_trial(
    state: State, search: Search, seen: Seen, decision: Decision
) -> tuple[State, Decision]:
    search = search._replace(losses=search.losses + seen.losses)
    state = state._replace(search=search)
    n = len(search.losses)
    if search.learning is None:  # the first look is at the initial state
        return _looked_at(state, seen, n, 2, decision, apart=1)
    length = _search.length(seen.n_all)
    if not search.is_half_over:
        return _looked_at(state, seen, n, length // 2, decision, apart=2)
    return _looked_at(state, seen, n, length, decision)


def _in_comparison(
    state: State, comparison: Comparison, seen: Seen, decision: Decision
) -> tuple[State, Decision]:
    if comparison.other is None:
        comparison = comparison._replace(first=comparison.first + seen.losses)
        n = len(comparison.first)
    else:
        comparison = comparison._replace(other=comparison.other + seen.losses)
        n = len(comparison.other or ())
    state = state._replace(comparison=comparison)
    return _looked_at(state, seen, n, _search.length(seen.n_all), decision)


def _looked_at(
    state: State, seen: Seen, n: int, length: int, decision: Decision, apart: int = APART
) -> tuple[State, Decision]:
    """Look at the kernels thrice before the end of so many batches, of which there were `n`."""
    watch = state.watch._replace(since=state.watch.since + len(seen.losses))
    is_time = n >= length - 2 * apart if watch.n_marks == 0 else watch.since >= apart
    if is_time and (watch.n_marks < 2 or n >= length):
        watch, decision = _next_mark(watch, decision)
    return state._replace(watch=watch), decision


def _at_a_standstill(state: State, seen: Seen, decision: Decision) -> tuple[State, Decision]:
    """Look at the kernels thrice, to see whether the network is dead."""
    progress, watch = state.progress, state.watch
    if progress.since_best < LEAST_WAIT:
        if watch.since or watch.n_marks:
            state = state._replace(watch=Watch(wait=watch.wait))
        return state, decision
    watch = watch._replace(since=watch.since + len(seen.losses))
    if watch.since >= _wait(watch):
        watch, decision = _next_mark(watch, decision)
    return state._replace(watch=watch), decision


def _comparison_due(state: State, seen: Seen) -> Comparison | None:
    """The comparison of rates that begins with this batch.

    Only in a run that had trouble, and not at its end, where little is left. While the loss falls,
    and on a plateau that it has never left, with a higher rate; where it hovers, with a lower one,
    and after that has lost with a higher one.
    """
    length = _search.length(seen.n_all)
    if not state.had_trouble or state.n_annealed or not seen.kept:
        return None
    if state.since_compared < state.wait * length:
        return None
    left = ANNEALED[0] * seen.n_all + _comparison.LEFT * length
    if seen.n_left is not None and seen.n_left < left:
        return None
    initial = _limit.initial_level(state.levels)
    has_gained = _limit.typical(state.progress.last) < initial - _search.GAIN * abs(initial)
    hovers = has_gained and _progress.hovers(state.progress)
    factor = min(_comparison.UP, state.ceiling / state.scale)
    if hovers and state.lost_factor >= 1.0:
        factor = _comparison.DOWN
    elif factor < _comparison.WORTH:
        return None
    has_time = seen.n_left is None or seen.n_left >= _comparison.ENOUGH * seen.n_all
    return Comparison(factor, hovers, state.scale, seen.losses, may_begin_anew=has_time)


def _wait(watch: Watch) -> int:
    """Batches from one look at the kernels, or one comparison of them, to the next."""
    return APART if watch.n_marks else watch.wait


def _is_time_to_anneal(state: State, seen: Seen) -> bool:
    """Whether the rate is to be lowered for the end.

    After trouble it is as high as can be, and where much of the data is bad the rest is noisy.
    """
    is_troubled = state.had_trouble or _evidence.share(state.n_seen, state.n_bad) > OFTEN
    if not is_troubled or seen.n_left is None or state.n_annealed == len(ANNEALED):
        return False
    return seen.n_left <= ANNEALED[state.n_annealed] * seen.n_all


def _annealed(state: State, decision: Decision) -> tuple[State, Decision]:
    state = state._replace(scale=state.scale * _search.FACTOR, n_annealed=state.n_annealed + 1)
    value = _progress.smoothed(state.progress)
    return state, decision._replace(cause="end", scale=state.scale, value=value)


def _next_mark(watch: Watch, decision: Decision) -> tuple[Watch, Decision]:
    """Look at the kernels for the first, second or third time."""
    decision = decision._replace(mark=watch.n_marks)
    return watch._replace(n_marks=watch.n_marks + 1, since=0), decision


# ---------------------------------------------------------------- bad batches
def _is_first_suspect(state: State, loss: float) -> bool:
    return (
        state.standing == "unproven"
        and state.search is None
        and state.n_anew < MOST_ANEW
        and _limit.is_first_suspect(state.levels, loss)
    )


def _first_suspect(state: State) -> tuple[State, Decision]:
    """Go back to the initial state, whose next losses will tell whether the first was bad data."""
    check = FirstCheck(_limit.initial_level(state.levels))
    state = state._replace(first_check=check, standing="initial", n_anew=state.n_anew + 1)
    decision = Decision("checking", put_back="initial", scale=state.scale)
    return state, decision._replace(keep=("suspect",))


def _check_first(state: State, check: FirstCheck, loss: float) -> tuple[State, Decision]:
    """If they all are as high, the initial weights are far off; if not, begin anew from there."""
    if not math.isfinite(loss) or AS_HIGH * loss >= check.level:
        check = check._replace(n_high=check.n_high + 1)
        if check.n_high < SURE:
            decision = Decision("checking", put_back="initial", scale=state.scale)
            return state._replace(first_check=check), decision
        state = state._replace(first_check=None, standing="proven")
        return state, Decision("checking", put_back="suspect", scale=state.scale)
    evidence = Rejected(state.first_where, check.level, loss, "first")
    state = unsuspected(state)._replace(
        first_check=None,
        levels=_limit.started_over(_limit.without_suspects(state.levels, loss)),
        progress=_progress.Progress(),
        standing="initial",
        since_trouble=0,
    )
    return state, _undone(state, "initial", evidence, settled=True)


def _are_data_suspect(state: State) -> bool:
    """Whether weights that explode on a part of the batches may have been taken for bad data."""
    is_frequent = _evidence.is_frequent(state.n_seen, state.n_far)
    return is_frequent and state.n_data_checks < MOST_DATA_CHECKS


def _begin_data_check(state: State, decision: Decision) -> tuple[State, Decision]:
    """Go back to the initial state, to see whether batches are bad there too."""
    state = state._replace(
        data_check=DataCheck(_evidence.enough(state.n_seen, state.n_far)),
        n_data_checks=state.n_data_checks + 1,
        standing="initial",
    )
    other = Decision("checking", keep=("suspect",), put_back="initial", scale=state.scale)
    return state, _joined(decision, other)


def _check_data(
    options: Options, state: State, check: DataCheck, seen: Seen
) -> tuple[State, Decision]:
    loss = seen.losses[0]
    if _limit.is_far(state.levels, loss):
        state = state._replace(data_check=None, n_data_checks=MOST_DATA_CHECKS, standing="proven")
        return state, Decision("checking", put_back="suspect", scale=state.scale)
    check = check._replace(n_good=check.n_good + 1)
    if check.n_good < check.n:
        decision = Decision("checking", put_back="initial", scale=state.scale)
        return state._replace(data_check=check), decision
    evidence = Rejected(state.last_where, loss, None, n=state.n_bad)
    state = state._replace(data_check=None, n_bad=0, n_far=0)
    return weights_at_fault(options, state, "some", evidence)


def _first_bad(options: Options, state: State, seen: Seen) -> int | None:
    for place, loss in enumerate(seen.losses):
        if _limit.is_bad(state.levels, loss, options.threshold, options.warmup):
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
        return state, _undone(state, "proven", evidence, settled=True)
    if state.standing != "unproven" or place > 0:
        return _bad_at_proven(options, state, seen, place, evidence)
    pending = (*state.pending, evidence)
    if state.is_retry:
        evidence = pending[0]._replace(n=len(pending))
        return weights_at_fault(options, state, "weights", evidence)
    state = state._replace(pending=pending, since_trouble=0)
    need = _evidence.needed(state.n_seen, state.n_bad, evidence.value)
    if len(pending) < need:
        return state, _undone(state, "before", evidence)
    early = is_early(state)
    state = state._replace(is_back=True, standing="initial" if early else "proven")
    decision = _undone(state, "initial" if early else "proven", evidence)
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
    return state, _undone(state, "proven", evidence, settled=True)


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
            levels=_limit.started_over(state.levels, finite),
            progress=_progress.Progress(),
            bad_at_proven=(),
            is_back=False,
            is_retry=False,
            pending=(),
            n_running=0,
        )
        level = evidence._replace(cause="level")
        return state, _undone(state, "before", level, settled=True)._replace(keep=("best",))
    if state.n_running >= MOST_RUNNING:
        decision = _undone(state, "before", evidence._replace(cause="all bad"), settled=True)
        return state, decision._replace(stop=True, cause="all bad", put_back=_safe(state))
    return state, _undone(state, "before", data, settled=True)._replace(keep=keep)


def _undone(state: State, slot: Slot, evidence: Rejected, settled: bool = False) -> Decision:
    return Decision(
        evidence.cause,
        put_back=slot,
        scale=state.scale,
        value=evidence.value,
        reference=evidence.reference,
        rejected=(evidence,) if settled else (),
    )


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
