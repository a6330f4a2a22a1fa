"""When the kernels are looked at, thrice each time, to see which units learn."""

from __future__ import annotations

from pykguard.rules.spike._types import Decision, Seen, State, Watch

APART = 4  # batches between two looks at the kernels
LEAST_WAIT, MOST_WAIT = 32, 1024


def at_a_standstill(state: State, seen: Seen, decision: Decision) -> tuple[State, Decision]:
    """Look at the kernels thrice, to see whether the network is dead."""
    progress, watch = state.progress, state.watch
    if progress.since_best < LEAST_WAIT:
        if watch.since or watch.n_marks:
            state = state._replace(watch=Watch(wait=watch.wait))
        return state, decision
    watch = watch._replace(since=watch.since + len(seen.losses))
    if watch.since >= wait(watch):
        watch, decision = next_mark(watch, decision)
    return state._replace(watch=watch), decision


def looked_at(
    state: State, seen: Seen, n: int, length: int, decision: Decision, apart: int = APART
) -> tuple[State, Decision]:
    """Look at the kernels thrice before the end of so many batches, of which there were `n`."""
    watch = state.watch._replace(since=state.watch.since + len(seen.losses))
    is_time = n >= length - 2 * apart if watch.n_marks == 0 else watch.since >= apart
    if is_time and (watch.n_marks < 2 or n >= length):
        watch, decision = next_mark(watch, decision)
    return state._replace(watch=watch), decision


def next_mark(watch: Watch, decision: Decision) -> tuple[Watch, Decision]:
    """Look at the kernels for the first, second or third time."""
    decision = decision._replace(mark=watch.n_marks)
    return watch._replace(n_marks=watch.n_marks + 1, since=0), decision


def wait(watch: Watch) -> int:
    """Batches from one look at the kernels, or one comparison of them, to the next."""
    return APART if watch.n_marks else watch.wait
