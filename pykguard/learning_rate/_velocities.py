"""The velocities of optimizers with momentum, which are sums of steps and so hold the rate."""

from __future__ import annotations

import sys
from typing import Any

import keras

from pykguard.learning_rate._held import is_of_legacy


def scale_velocities(optimizer: Any, ratio: float) -> None:
    """Multiply the velocities of SGD and RMSprop with momentum, as a new rate asks for.

    Keras keeps `v <- momentum * v - rate * gradient` and moves a weight by `v`. When the rate is
    cut to `ratio` of it, `v` goes on with the old one for some `1 / (1 - momentum)` steps.
    """
    for velocity in _velocities(optimizer):
        velocity.assign(velocity * ratio)


def _velocities(optimizer: Any) -> list[Any]:
    library = sys.modules["tf_keras"] if is_of_legacy(optimizer) else keras
    kinds = library.optimizers
    if hasattr(optimizer, "get_slot_names"):  # an optimizer of tf_keras' older kind
        if not isinstance(optimizer, (kinds.legacy.SGD, kinds.legacy.RMSprop)):
            return []
        slots = [each for each in optimizer.variables() if each.name.endswith("/momentum:0")]
        return slots if optimizer._momentum else []
    if isinstance(optimizer, kinds.SGD):
        return list(getattr(optimizer, "momentums", []))
    return (
        list(getattr(optimizer, "_momentums", [])) if isinstance(optimizer, kinds.RMSprop) else []
    )
