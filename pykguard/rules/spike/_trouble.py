"""What follows once the weights, and so the rate, are at fault."""

from __future__ import annotations

from pykguard.rules.spike import _comparison, _levels, _progress
from pykguard.rules.spike._rates import lost
from pykguard.rules.spike._returning import calmed, rolled_back
from pykguard.rules.spike._trials import begin_anew, next_trial
from pykguard.rules.spike._types import Cause, Decision, Options, Rejected, State


def weights_at_fault(
    options: Options, state: State, cause: Cause, evidence: Rejected
) -> tuple[State, Decision]:
    """Cut the rate: in a search by its next trial, early by a search, later from the best state."""
    if state.search is not None:
        return next_trial(state, cause, evidence)
    comparison, state = state.comparison, state._replace(comparison=None)
    if comparison is not None and comparison.other is not None:
        return lost(state, comparison, evidence)
    if cause in ("dead", "some") or is_early(state):
        return begin_anew(state, cause, evidence)
    state = calmed(state)._replace(
        standing="proven",
        scale=state.scale * options.lr_factor,
        ceiling=min(state.ceiling, _comparison.CEILING * state.scale),
        wait=max(2 * state.wait, _comparison.LATE),
    )
    return rolled_back(state, cause, evidence, "best")


def is_early(state: State) -> bool:
    """Whether nothing would be lost by going back to the initial state."""
    return state.search is not None or not state.is_under_way


def has_got_anywhere(options: Options, state: State) -> bool:
    """Whether training has, beyond its warm-up."""
    initial = _levels.initial_level(state.levels)
    is_warm = state.n_batches > options.warmup
    return is_warm and _progress.has_got_anywhere(state.progress, initial)
