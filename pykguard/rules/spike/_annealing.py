"""Lowering the rate for the end of a training."""

from __future__ import annotations

from pykguard.rules.spike import _evidence, _progress, _search
from pykguard.rules.spike._types import Decision, Seen, State

ANNEALED = (0.1, 0.03)  # shares of the training that are left when the rate is lowered for its end


def is_time_to_anneal(state: State, seen: Seen) -> bool:
    """Whether the rate is to be lowered for the end.

    After trouble it is as high as can be, and where much of the data is bad the rest is noisy.
    """
    is_troubled = state.had_trouble or _evidence.are_often_bad(state.n_seen, state.n_bad)
    if not is_troubled or seen.n_left is None or state.n_annealed == len(ANNEALED):
        return False
    return seen.n_left <= ANNEALED[state.n_annealed] * seen.n_all


def annealed(state: State, decision: Decision) -> tuple[State, Decision]:
    """Lower the rate once."""
    state = state._replace(scale=state.scale * _search.FACTOR, n_annealed=state.n_annealed + 1)
    value = _progress.smoothed(state.progress)
    return state, decision._replace(cause="end", scale=state.scale, value=value)


def warmed(state: State) -> State:
    """When training has ended: with the rate as it was before it was lowered for that, or tried."""
    if state.comparison is not None:
        state = state._replace(scale=state.comparison.scale)
    return state._replace(scale=state.scale / _search.FACTOR**state.n_annealed, n_annealed=0)
