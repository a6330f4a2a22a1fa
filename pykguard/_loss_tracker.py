"""A model's loss metric that also remembers the batches' own losses.

Keras logs the running mean since the epoch began. Taking differences of running means loses
precision as the epoch grows, so the loss is caught where Keras itself adds it up.
"""

from __future__ import annotations

from typing import Any

import keras

from pykguard._framework import is_legacy, to_numpy


class LossTracker(keras.metrics.Mean):
    """The mean that Keras keeps, and the last `size` values that went into it.

    Args:
        size: How many values are remembered: the steps that one execution may take.
    """

    def __init__(self, size: int, name: str = "loss") -> None:
        super().__init__(name=name)
        self.size = size
        self.resets = 0
        self.recent = self.add_variable((size,), "zeros", name="recent")
        self.n_added = self.add_variable((), "zeros", dtype="int32", name="n_added")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Add one batch's loss; called by Keras, inside the compiled step."""
        super().update_state(values, sample_weight=sample_weight)
        recent, n_added = self.recent.value, self.n_added.value  # JAX takes no variables
        place = keras.ops.arange(self.size) == n_added % self.size
        value = keras.ops.cast(values, self.recent.dtype)
        self.recent.assign(keras.ops.where(place, value, recent))
        self.n_added.assign(n_added + 1)

    def reset_state(self) -> None:
        """Start a new epoch."""
        super().reset_state()
        self.n_added.assign(0)
        self.resets += 1


class Recorded:
    """A tracker that a model uses, and how to read it between two batches.

    Attributes:
        resets: How often it was reset, as at each epoch's beginning.
    """

    def __init__(self, model: Any, tracker: Any) -> None:
        self._model = model
        self._tracker = tracker

    @property
    def resets(self) -> int:
        """How often it was reset."""
        return int(self._tracker.resets)

    def n_added(self) -> int:
        """How many values were added since the last reset."""
        return int(self._read(self._tracker.n_added))

    def since(self, before: int) -> list[float]:
        """The values added since `n_added()` was `before`, at most those of one execution."""
        now, size = self.n_added(), self._tracker.size
        recent = self._read(self._tracker.recent).astype("float64")
        return [float(recent[i % size]) for i in range(max(before, now - size), now)]

    def _read(self, variable: Any) -> Any:
        """Its value; within an epoch on JAX Keras holds that outside of the variable."""
        state = getattr(self._model, "_jax_state", None)
        if not state or self._model._jax_state_synced:
            return to_numpy(variable)
        variables = self._model.metrics_variables
        place = next(i for i, each in enumerate(variables) if each is variable)
        return to_numpy(state["metrics_variables"][place])


def install(model: Any) -> Recorded:
    """Let the model use a tracker that remembers.

    It stays in the model, where it serves as the plain mean did, so that a later `fit` does not
    compile its step again.
    """
    return Recorded(model, _install_legacy(model) if is_legacy(model) else _install(model))


def _install(model: Any) -> LossTracker:
    size = int(model.steps_per_execution)
    tracker = model._loss_tracker
    if isinstance(tracker, LossTracker) and tracker.size == size:
        return tracker
    tracker = LossTracker(size)
    # Past Keras' attribute tracking, which would list the metric twice.
    object.__setattr__(model, "_loss_tracker", tracker)
    if model.built:
        # The step may have been traced with the old tracker.
        model.make_train_function(force=True)
        model.test_function = None
    return tracker


def _install_legacy(model: Any) -> Any:
    from pykguard._legacy import RecentLosses

    size = int(to_numpy(model._steps_per_execution))
    tracker = model.compiled_loss._total_loss_mean
    if isinstance(tracker, RecentLosses) and tracker.size == size:
        return tracker
    tracker = RecentLosses(size)
    model.compiled_loss._total_loss_mean = tracker
    model.make_train_function(force=True)
    model.test_function = None
    return tracker
