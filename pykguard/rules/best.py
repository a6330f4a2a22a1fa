"""The rule of `RestoreBest`: which epoch's weights are the best so far.

Minimising: an epoch is the best so far iff `value < best - min_delta`, its value and its weights
are finite, and `epoch >= start_from_epoch`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pykguard.rules._comparison import Direction, is_better


class Options(NamedTuple):
    """What the user asked for."""

    direction: Direction = "min"
    min_delta: float = 0.0
    start_from_epoch: int = 0


class State(NamedTuple):
    """The best so far; None before there is one."""

    best: float | None = None
    best_epoch: int | None = None


def may_be_best(options: Options, state: State, epoch: int, value: float | None) -> bool:
    """Whether the value alone makes the epoch the best so far (its weights may still be broken)."""
    return (
        value is not None
        and math.isfinite(value)
        and epoch >= options.start_from_epoch
        and is_better(options.direction, value, state.best, options.min_delta)
    )


def step(
    options: Options, state: State, epoch: int, value: float | None, weights_finite: bool = True
) -> tuple[State, bool]:
    """Judge one epoch; returns the new state and whether the epoch is the best so far."""
    if not (weights_finite and may_be_best(options, state, epoch, value)):
        return state, False
    return State(best=value, best_epoch=epoch), True
