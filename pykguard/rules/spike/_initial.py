"""What the losses of batches at the initial weights tell of suspect ones."""

from __future__ import annotations

import math

from pykguard.rules.spike import _evidence, _levels, _limit, _progress
from pykguard.rules.spike._returning import joined, undone, unsuspected
from pykguard.rules.spike._trouble import weights_at_fault
from pykguard.rules.spike._types import (
    DataCheck,
    Decision,
    FirstCheck,
    Options,
    Rejected,
    Seen,
    State,
)

MOST_ANEW = 1
MOST_DATA_CHECKS = 2
SURE = 5  # losses at the initial state that are as high as the first one: more than a tenth of it
AS_HIGH = 10.0


def is_first_suspect(state: State, loss: float) -> bool:
    """Whether this loss is so low that the first one is to be verified."""
    return (
        state.standing == "unproven"
        and state.search is None
        and state.n_anew < MOST_ANEW
        and _levels.is_first_suspect(state.levels, loss)
    )


def first_suspect(state: State) -> tuple[State, Decision]:
    """Go back to the initial state, whose next losses will tell whether the first was bad data."""
    check = FirstCheck(_levels.initial_level(state.levels))
    state = state._replace(first_check=check, standing="initial", n_anew=state.n_anew + 1)
    decision = Decision("checking", put_back="initial", scale=state.scale)
    return state, decision._replace(keep=("suspect",))


def check_first(state: State, check: FirstCheck, loss: float) -> tuple[State, Decision]:
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
        levels=_levels.started_over(_levels.without_suspects(state.levels, loss)),
        progress=_progress.Progress(),
        standing="initial",
        since_trouble=0,
    )
    return state, undone(state, "initial", evidence, settled=True)


def are_data_suspect(state: State) -> bool:
    """Whether weights that explode on a part of the batches may have been taken for bad data."""
    is_frequent = _evidence.is_frequent(state.n_seen, state.n_far)
    return is_frequent and state.n_data_checks < MOST_DATA_CHECKS


def begin_data_check(state: State, decision: Decision) -> tuple[State, Decision]:
    """Go back to the initial state, to see whether batches are bad there too."""
    state = state._replace(
        data_check=DataCheck(_evidence.enough(state.n_seen, state.n_far)),
        n_data_checks=state.n_data_checks + 1,
        standing="initial",
    )
    other = Decision("checking", keep=("suspect",), put_back="initial", scale=state.scale)
    return state, joined(decision, other)


def check_data(
    options: Options, state: State, check: DataCheck, seen: Seen
) -> tuple[State, Decision]:
    """If one is as bad there, it is the data; if none is, the weights are at fault."""
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
