"""Reading and scaling a model's learning rate so that the next step uses what is said here."""

from __future__ import annotations

from typing import Any

import keras

from pykguard._framework import is_legacy, to_numpy
from pykguard._optimizers import innermost, optimizers


@keras.saving.register_keras_serializable(package="pykguard")
class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning-rate schedule, or a function of nothing, multiplied by a constant.

    With `s(t)` the rate of `schedule` at step `t`:

        rate(t) = max(scale * s(t), min(minimum, s(t)))

    so that a rate is not scaled below `minimum`, and one that is below it already is not raised.

    Args:
        schedule: A `LearningRateSchedule`, or a callable without arguments.
        scale: The factor, above 0.
        minimum: The floor, in units of the learning rate.
    """

    def __init__(self, schedule: Any, scale: float, minimum: float = 0.0) -> None:
        self.schedule = schedule
        self.scale = scale
        self.minimum = minimum

    def __call__(self, step: Any) -> Any:
        """The rate at `step`."""
        rate = self.schedule(step) if is_schedule(self.schedule) else self.schedule()
        rate = keras.ops.convert_to_tensor(rate, dtype="float32")
        floor = keras.ops.minimum(rate, self.minimum)
        return keras.ops.maximum(rate * self.scale, floor)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal schedule."""
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "scale": self.scale,
            "minimum": self.minimum,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScaledSchedule:
        """Rebuild from `get_config()`."""
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, config["scale"], config["minimum"])


def read_learning_rate(model: Any) -> float | None:
    """The rate of the model's optimizer; None where it has none.

    Of several it is the first that has taken a step: Keras compiles a model with an optimizer even
    where its `train_step` has others of its own.
    """
    all_of_them = [innermost(optimizer) for optimizer in optimizers(model)]
    in_use = [o for o in all_of_them if int(to_numpy(o.iterations)) > 0]
    for optimizer in in_use or all_of_them:
        return _rate(optimizer)
    return None


def scale_learning_rate(model: Any, factor: float, minimum: float) -> None:
    """Multiply the rates of the model's optimizers by `factor`, but not below `minimum`.

    The next step uses the new rate. A rate that is a number is assigned; a schedule or a callable
    is wrapped in `ScaledSchedule` and the compiled step is rebuilt, since a step that was traced
    would keep the old one.
    """
    if factor == 1.0:
        return
    scaled = _legacy_schedule() if is_legacy(model) else ScaledSchedule
    wrapped = [_scale(innermost(o), factor, minimum, scaled) for o in optimizers(model)]
    if any(wrapped):
        model.make_train_function(force=True)


def as_given(optimizer: Any) -> Any:
    """An optimizer's rate as it was given: a schedule or a function, or else a variable."""
    if hasattr(optimizer, "_learning_rate"):
        return optimizer._learning_rate
    return optimizer._hyper["learning_rate"]  # an optimizer of tf_keras' older kind


def is_schedule(rate: Any) -> bool:
    """Whether it is a learning-rate schedule of Keras 3."""
    return isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)


def _legacy_schedule() -> Any:
    from pykguard._legacy import ScaledSchedule as LegacyScaledSchedule

    return LegacyScaledSchedule


def _scale(optimizer: Any, factor: float, minimum: float, scaled: Any) -> bool:
    """Scale one optimizer's rate; returns whether the compiled step has to be rebuilt for it."""
    rate = as_given(optimizer)
    if callable(rate):
        if isinstance(rate, scaled):
            rate, factor = rate.schedule, factor * rate.scale
        optimizer.learning_rate = scaled(rate, factor, minimum)
        return True
    old = _rate(optimizer)
    optimizer.learning_rate = max(old * factor, min(minimum, old))
    return False


def _rate(optimizer: Any) -> float:
    """The rate that the optimizer would use now."""
    rate = as_given(optimizer)
    if callable(rate) and not hasattr(optimizer, "_get_current_learning_rate"):
        return float(to_numpy(rate(optimizer.iterations)))  # tf_keras shows the last step's
    return float(to_numpy(optimizer.learning_rate))
