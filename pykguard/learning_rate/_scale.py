"""Scaling a model's learning rate, as a guard's `lr_factor` does."""

from __future__ import annotations

from typing import Any

from pykguard._optimizers import innermost, optimizers
from pykguard.learning_rate._compiled import renew
from pykguard.learning_rate._held import as_given, hold, is_of_legacy, value_now
from pykguard.learning_rate._schedule import adjusted_class
from pykguard.learning_rate._velocities import scale_velocities


def scale_learning_rate(model: Any, factor: float, minimum: float) -> None:
    """Multiply the rates of the model's optimizers by `factor`, but not below `minimum`.

    The next step uses the new rate, and velocities that hold the old one are scaled with it. A
    rate that is a number is assigned; a schedule or a callable is wrapped in `AdjustedSchedule`.
    """
    if factor == 1.0:
        return
    for each in optimizers(model):
        optimizer = innermost(each)
        rate, old = as_given(optimizer), value_now(optimizer)
        if not callable(rate):
            hold(optimizer, max(old * factor, min(minimum, old)))
            scale_velocities(optimizer, _ratio(optimizer, old))
            continue
        adjusted = adjusted_class(is_of_legacy(optimizer))
        start, scale = 0, factor
        if isinstance(rate, adjusted):
            rate, start, scale = rate.schedule, rate.start, rate.scale * factor
        hold(optimizer, adjusted(rate, scale, minimum, start))
        scale_velocities(optimizer, _ratio(optimizer, old))
        renew(optimizer, model)


def _ratio(optimizer: Any, old: float) -> float:
    """By what the rate was multiplied; 1 where it was 0 and so still is."""
    return value_now(optimizer) / old if old else 1.0
