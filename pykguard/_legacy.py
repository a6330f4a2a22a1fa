"""The classes that tf_keras needs as its own; imported only where tf_keras is in use."""

from __future__ import annotations

from typing import Any
from weakref import WeakMethod

import tensorflow as tf
import tf_keras

from pykguard.history._tracker import COLUMNS, number_of, tell
from pykguard.learning_rate._schedule import Adjusted


@tf_keras.saving.register_keras_serializable(package="pykguard")
class AdjustedSchedule(Adjusted, tf_keras.optimizers.schedules.LearningRateSchedule):
    """A schedule or callable of tf_keras, scaled and shifted; see `learning_rate`'s own."""

    library = tf_keras

    def __call__(self, step: Any) -> Any:
        """The rate at `step`."""
        if isinstance(self.schedule, tf_keras.optimizers.schedules.LearningRateSchedule):
            rate = self.schedule(tf.maximum(step - self.start, 0))
        else:
            rate = self.schedule()
        rate = tf.cast(rate, "float32")
        return tf.maximum(rate * self.scale, tf.minimum(rate, self.minimum))


# By this name alone it is in models that were saved as HDF5.
tf_keras.saving.get_custom_objects()["AdjustedSchedule"] = AdjustedSchedule


class LegacyLossTracker(tf_keras.metrics.Mean):
    """The mean loss that tf_keras keeps, and the last `size` values that went into it.

    Attributes:
        rate: The learning rate that is remembered with each value.
        listeners: Weak references to methods that are called before the mean starts anew.
    """

    def __init__(self, rate: Any, size: int, name: str = "loss") -> None:
        super().__init__(name=name)
        self.size = size
        self.rate = rate
        self.listeners: list[WeakMethod[Any]] = []
        self.recent = self.add_weight(
            name="recent",
            shape=(size, len(COLUMNS)),
            initializer="zeros",
            dtype="float64" if self.dtype == "float64" else "float32",
        )
        self.n_added = self.add_weight(name="n_added", initializer="zeros", dtype="int32")

    def update_state(self, values: Any, sample_weight: Any = None) -> Any:
        """Add one batch's loss; called by tf_keras, inside the compiled step."""
        added = super().update_state(values, sample_weight=sample_weight)
        weight = 1 if sample_weight is None else sample_weight
        row = (values, weight, self.rate.in_step(), number_of(self.n_added + 1))
        row = tf.stack([tf.reduce_mean(tf.cast(each, self.recent.dtype)) for each in row])
        # Of a strategy's variable only the replica's own handle can be written to in part.
        kept = tf.raw_ops.ResourceScatterUpdate(
            resource=self.recent.handle, indices=self.n_added % self.size, updates=row
        )
        with tf.control_dependencies([kept]):
            counted = self.n_added.assign_add(1)
        return tf.group(added, counted)

    @property
    def remembered(self) -> list[Any]:
        """The variables that remember batches; going back to an earlier state leaves them."""
        return [self.recent, self.n_added]

    def reset_state(self) -> None:
        """Start a new mean; what was remembered stays."""
        tell(self.listeners)
        self.start_over()

    def start_over(self) -> None:
        """The same, told to nobody."""
        for variable in (self.total, self.count):
            variable.assign(tf.zeros_like(variable))


# A SavedModel holds its metrics by the names of their classes. Under this one it can be loaded
# where pykguard is not: what is loaded is a plain mean.
LegacyLossTracker.__name__ = tf_keras.metrics.Mean.__name__
