"""A schedule made of another one: scaled, and begun at a later step."""

from __future__ import annotations

import sys
from typing import Any

import keras


class Adjusted:
    """The options of an adjusted schedule, whichever library it is for."""

    library: Any = keras

    def __init__(
        self, schedule: Any, scale: float = 1.0, minimum: float = 0.0, start: int = 0
    ) -> None:
        self.schedule = schedule
        self.scale = scale
        self.minimum = minimum
        self.start = start

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule."""
        return {
            "schedule": self.library.saving.serialize_keras_object(self.schedule),
            "scale": self.scale,
            "minimum": self.minimum,
            "start": self.start,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Adjusted:
        """Rebuild from `get_config()`."""
        # As a schedule: an older format of tf_keras does not name the module that it is from.
        schedule = cls.library.optimizers.schedules.deserialize(config["schedule"])
        return cls(**{**config, "schedule": schedule})


@keras.saving.register_keras_serializable(package="pykguard")
class AdjustedSchedule(Adjusted, keras.optimizers.schedules.LearningRateSchedule):
    """A learning-rate schedule, or a function of nothing, multiplied by a constant and shifted.

    With `s(t)` the rate of `schedule` at step `t`, and `u = max(t - start, 0)`:

        rate(t) = max(scale * s(u), min(minimum, s(u)))

    so that a rate is not scaled below `minimum`, and one that is below it already is not raised.

    Args:
        schedule: A `LearningRateSchedule`, or a callable without arguments.
        scale: The factor, above 0. Defaults to 1.
        minimum: The floor, in units of the learning rate. Defaults to 0.
        start: The optimizer's step that is step 0 of `schedule`. Defaults to 0.
    """

    def __call__(self, step: Any) -> Any:
        """The rate at `step`."""
        if is_schedule(self.schedule):
            rate = self.schedule(keras.ops.maximum(step - self.start, 0) if self.start else step)
        else:
            rate = self.schedule()
        rate = keras.ops.convert_to_tensor(rate, dtype="float32")
        floor = keras.ops.minimum(rate, self.minimum)
        return keras.ops.maximum(rate * self.scale, floor)


def is_schedule(rate: Any) -> bool:
    """Whether it is a learning-rate schedule of Keras 3."""
    return isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)


def is_schedule_like(rate: Any) -> bool:
    """Whether it is a learning-rate schedule of Keras 3 or of tf_keras."""
    libraries = [False, True] if "tf_keras" in sys.modules else [False]
    return isinstance(rate, tuple(map(schedule_class, libraries)))


def schedule_class(is_legacy: bool) -> Any:
    """What learning-rate schedules are made of in Keras 3 or in tf_keras."""
    library = sys.modules["tf_keras"] if is_legacy else keras
    return library.optimizers.schedules.LearningRateSchedule


def adjusted_class(is_legacy: bool) -> Any:
    """The class above, or its counterpart for the optimizers of tf_keras."""
    if not is_legacy:
        return AdjustedSchedule
    from pykguard._legacy import AdjustedSchedule as LegacyAdjustedSchedule

    return LegacyAdjustedSchedule
