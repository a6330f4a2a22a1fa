"""Whether a rise of the loss is the weights' doing or the data's."""

from __future__ import annotations

import math

from pykguard.rules.spike import _progress, _robust, _search
from pykguard.rules.spike._trouble import weights_at_fault
from pykguard.rules.spike._types import Check, Decision, Options, Rejected, Slot, State

CHECKS, MOST_CHECKS = 5, 40  # finite losses at either state that verify a drift; batches for it
LAST = 2 * CHECKS + 2  # batches of training in which the last drift can still be verified
ENOUGH = 10  # losses at either state that say how much they differ
BEYOND_CHANCE = 2.5  # standard errors
LOWER = 1.5  # times what is measured at the best state: the drifted one is worse, whatever the data


def check_drift(
    state: State, value: float, evidence: Rejected, n_left: int | None
) -> tuple[State, Decision]:
    """Put back the best state, to see whether the losses there are as high as after it.

    Before the end of training a quarter of the batches that are left is spent on it at most, if
    that will do.
    """
    most = MOST_CHECKS if n_left is None else max(2 * CHECKS, min(MOST_CHECKS, n_left // 4))
    state = state._replace(check=Check(value, evidence.where, most), standing="proven")
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
    if is_open and check.n < check.most:
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
    allowed = min(check.drifted, max(at_best, _median(check.at_drifted)))
    progress = _progress.Progress(best=level, allowed=allowed)
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

    The standard error of a median of `n` normal values is 1.25 / sqrt(n) times their deviation,
    which while there are few is that of the losses before.
    """
    n = min(len(check.at_best), len(check.at_drifted))
    if n == 0:
        return True
    rise, error = _search.compared(check.at_drifted, check.at_best)
    if n < ENOUGH:
        roots = sorted(map(_robust.root, state.progress.last))
        error = 1.25 * _robust.spread(roots, _robust.middle(roots)) * math.sqrt(2 / n)
    return rise > BEYOND_CHANCE * error


def _median(losses: tuple[float, ...]) -> float:
    return _robust.typical(losses) if losses else math.inf
