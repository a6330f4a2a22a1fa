"""The rule of the revert guards: accept an epoch, let it pass, or go back.

Minimising, with `r` the reference value:

    worse  <=>  not (value <= r + max(tolerance, relative_tolerance * |r|))

A non-finite value, or non-finite weights behind a finite one, is worse at once.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from pykguard.rules._comparison import Direction, is_better, is_worse, slack
from pykguard.rules._epochs import INITIAL

Reference = Literal["best", "previous"]
REFERENCES: tuple[Reference, ...] = ("best", "previous")


class Options(NamedTuple):
    """What the user asked for; never changes while training runs."""

    direction: Direction = "min"
    tolerance: float = 0.0
    relative_tolerance: float = 0.0
    reference: Reference = "best"
    patience: int = 0
    max_reverts: int | None = None
    start_from_epoch: int = 0
    go_back_to: Literal["accepted", "best"] = "accepted"


class State(NamedTuple):
    """What has been seen so far."""

    best: float | None = None
    best_epoch: int | None = None
    previous: float | None = None  # the last accepted value
    previous_epoch: int | None = None
    kept_epoch: int = INITIAL  # the epoch whose end state is the one to go back to
    n_worse: int = 0  # worse epochs in a row that were let pass
    n_reverts: int = 0
    n_reverts_running: int = 0  # reverts since an epoch was last accepted


class Seen(NamedTuple):
    """One epoch: `value` is None where the quantity was not measured."""

    epoch: int
    value: float | None
    weights_finite: bool = True


class Decision(NamedTuple):
    """What to do after an epoch, and the evidence for it."""

    action: Literal["accept", "skip", "pass", "revert"]
    cause: Literal["first", "unjudged", "good", "unmeasured", "worse", "value", "weights"]
    keep: bool = False  # the epoch's end state becomes the one to go back to
    stop: bool = False
    reference: float | None = None
    reference_epoch: int | None = None
    allowed: float = 0.0  # how far beyond the reference a value may be
    restored_from: int | None = None


def step(options: Options, state: State, seen: Seen) -> tuple[State, Decision]:
    """Judge one epoch.

    Order of the questions: is everything finite; is the epoch before `start_from_epoch`; was the
    quantity measured; is there a reference; is the value worse than it.
    """
    reference, reference_epoch = _reference(options, state)
    evidence = Decision("accept", "good", reference=reference, reference_epoch=reference_epoch)

    if seen.value is not None and not math.isfinite(seen.value):
        return _revert(options, state, evidence._replace(cause="value"))
    if not seen.weights_finite:
        return _revert(options, state, evidence._replace(cause="weights"))
    if seen.epoch < options.start_from_epoch:
        return _accept_unjudged(state, seen)
    if seen.value is None:
        return state, evidence._replace(action="skip", cause="unmeasured")
    if reference is None:
        return _accept(options, state, seen, seen.value, evidence._replace(cause="first"))

    allowed = slack(reference, options.tolerance, options.relative_tolerance)
    evidence = evidence._replace(allowed=allowed)
    if not is_worse(options.direction, seen.value, reference, allowed):
        return _accept(options, state, seen, seen.value, evidence)
    evidence = evidence._replace(cause="worse")
    if state.n_worse < options.patience:
        return state._replace(n_worse=state.n_worse + 1), evidence._replace(action="pass")
    return _revert(options, state, evidence)


def _reference(options: Options, state: State) -> tuple[float | None, int | None]:
    if options.reference == "best":
        return state.best, state.best_epoch
    return state.previous, state.previous_epoch


def _accept(
    options: Options, state: State, seen: Seen, value: float, evidence: Decision
) -> tuple[State, Decision]:
    improved = is_better(options.direction, value, state.best)
    keep = improved or options.go_back_to == "accepted"
    state = state._replace(
        best=value if improved else state.best,
        best_epoch=seen.epoch if improved else state.best_epoch,
        previous=value,
        previous_epoch=seen.epoch,
        kept_epoch=seen.epoch if keep else state.kept_epoch,
        n_worse=0,
        n_reverts_running=0,
    )
    return state, evidence._replace(keep=keep)


def _accept_unjudged(state: State, seen: Seen) -> tuple[State, Decision]:
    state = state._replace(kept_epoch=seen.epoch, n_worse=0, n_reverts_running=0)
    return state, Decision("accept", "unjudged", keep=True)


def _revert(options: Options, state: State, evidence: Decision) -> tuple[State, Decision]:
    state = state._replace(
        n_worse=0,
        n_reverts=state.n_reverts + 1,
        n_reverts_running=state.n_reverts_running + 1,
    )
    stop = options.max_reverts is not None and state.n_reverts >= options.max_reverts
    return state, evidence._replace(action="revert", stop=stop, restored_from=state.kept_epoch)
