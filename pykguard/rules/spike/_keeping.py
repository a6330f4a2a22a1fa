"""Before which batches states are kept, and which are judged together."""

from __future__ import annotations

from pykguard.rules.spike._drift import LAST
from pykguard.rules.spike._types import Options, State
from pykguard.rules.spike._watching import LEAST_WAIT, wait

NEAR = 64  # batches after trouble for which every state is kept
EARLY = 16  # batches until which thrice as many lie between two states as before them
APART_AT_END = 8  # batches between two states at the end of a training
TOGETHER = 8  # batches that are judged together in calm


def is_due(options: Options, state: State, n_left: int | None = None) -> bool:
    """Whether to keep the state before the next batch, after which `n_left` are to come."""
    return _is_watched(state) or _until_due(options, state, state.since_kept + 1, n_left) <= 0


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
    until_look = max(wait(watch) - watch.since, LEAST_WAIT - since_best)
    return max(1, min(TOGETHER, until_state, until_look, n_left - LAST - 1))


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
