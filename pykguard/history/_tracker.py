"""A model's loss metric that also remembers the batches' own losses.

Keras logs the running mean since the epoch began. Taking differences of running means loses
precision as the epoch grows, so the loss is caught where Keras itself adds it up, in the compiled
step. To read it back after each batch would cost more than all else that is recorded, so the last
`size` batches are kept on the device and read together.
"""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from typing import Any
from weakref import WeakMethod

import keras
import numpy as np

from pykguard._errors import UnsupportedError
from pykguard._framework import backend_of, is_legacy, read_now, replicas_of, to_numpy
from pykguard.history._rate import StepRate, rate_of

SIZE = 256
COLUMNS = ("loss", "size", "learning_rate", "number")
NUMBERS = 2**22  # batches after which their numbers begin anew, so that float32 holds them


def tell(listeners: list[WeakMethod[Any]]) -> None:
    """Call the listeners that are still there; a fit that was broken off leaves its own behind."""
    listeners[:] = [listener for listener in listeners if listener() is not None]
    for listener in listeners:
        method = listener()
        if method is not None:
            method()


def number_of(n_added: Any) -> Any:
    """The number of a batch, by which those that are remembered are known; 0 is none."""
    return n_added % NUMBERS


class LossTracker(keras.metrics.Mean):
    """The mean that Keras keeps, and the last `size` values that went into it.

    Attributes:
        rate: The learning rate that is remembered with each value.
        listeners: Weak references to methods that are called before the mean starts anew.
    """

    def __init__(self, rate: StepRate, size: int, name: str = "loss") -> None:
        super().__init__(name=name)
        self.size = size
        self.rate = rate
        self.listeners: list[WeakMethod[Any]] = []
        dtype = "float64" if self.dtype == "float64" else "float32"
        self.recent = self.add_variable((size, len(COLUMNS)), "zeros", dtype=dtype, name="recent")
        self.n_added = self.add_variable((), "zeros", dtype="int32", name="n_added")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Add one batch's loss; called by Keras, inside the compiled step."""
        size = 1 if sample_weight is None else sample_weight
        n_added = self.n_added.value  # JAX takes no variables
        columns = (values, size, self.rate.in_step(), number_of(n_added + 1))
        row = [_scalar(each, self.recent.dtype) for each in columns]
        if keras.backend.backend() == "tensorflow":
            self._update_in_place(values, sample_weight, row, n_added)
            return
        super().update_state(values, sample_weight=sample_weight)
        is_there = keras.ops.expand_dims(keras.ops.arange(self.size) == n_added % self.size, 1)
        self.recent.assign(keras.ops.where(is_there, keras.ops.stack(row), self.recent.value))
        self.n_added.assign(n_added + 1)

    def _update_in_place(self, values: Any, sample_weight: Any, row: list[Any], n: Any) -> None:
        """The same in fewer operations: what is added to Keras' own is saved in that."""
        import tensorflow as tf

        if sample_weight is None or len(values.shape) or values.dtype != self.total.dtype:
            super().update_state(values, sample_weight=sample_weight)
        else:
            weight = tf.cast(sample_weight, self.count.dtype)
            self.total.value.assign_add(values * weight, read_value=False)
            self.count.value.assign_add(weight, read_value=False)
        handle = self.recent.value.handle
        tf.raw_ops.ResourceScatterUpdate(
            resource=handle, indices=n % self.size, updates=tf.stack(row)
        )
        self.n_added.value.assign_add(1, read_value=False)

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
        self.total.assign(0)
        self.count.assign(0)


def _scalar(value: Any, dtype: str) -> Any:
    """A number as a tensor. A loss may have a value for each row, of which Keras takes the mean."""
    value = keras.ops.cast(value, dtype)
    return keras.ops.mean(value) if len(value.shape) else value


class EagerLossTracker(keras.metrics.Mean):
    """The same for PyTorch, where each operation on a variable would cost a part of the batch."""

    def __init__(self, rate: StepRate, size: int, name: str = "loss") -> None:
        super().__init__(name=name)
        self.size = size
        self.rate = rate
        self.listeners: list[WeakMethod[Any]] = []
        self.recent: deque[tuple[Any, Any, Any]] = deque(maxlen=size)
        self.n_added = 0

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Add one batch's loss."""
        super().update_state(values, sample_weight=sample_weight)
        loss = values.detach().mean() if hasattr(values, "detach") else values
        size = 1 if sample_weight is None else sample_weight
        self.n_added += 1
        self.recent.append((loss, size, self.rate.in_step()))

    def reset_state(self) -> None:
        """Start a new mean; what was remembered stays."""
        tell(self.listeners)
        self.start_over()

    def start_over(self) -> None:
        """The same, told to nobody."""
        super().reset_state()


class Reader:
    """Reads a model's tracker between two batches."""

    def __init__(self, model: Any, tracker: Any) -> None:
        self._model = model
        self.tracker = tracker
        self._is_eager = isinstance(tracker, EagerLossTracker)
        is_tensorflow = backend_of(model) == "tensorflow"
        self._replicas = replicas_of(tracker.recent) if is_tensorflow else ()

    def n_added(self) -> int:
        """How many batches were ever added."""
        if self._is_eager:
            return self.tracker.n_added  # type: ignore[no-any-return]
        return int(read_metric(self._model, self.tracker.n_added)[0])

    def last(self, n: int, n_added: int) -> np.ndarray[Any, Any] | None:
        """The newest `n` rows of loss, size and rate, oldest first; None unless `n_added` were."""
        if self._is_eager:
            if self.tracker.n_added != n_added:
                return None
            return _as_rows(list(self.tracker.recent)[len(self.tracker.recent) - n :])
        size = self.tracker.size
        recent = self._read_recent()
        newest, oldest = recent[0][(n_added - 1) % size, -1], recent[0][n_added % size, -1]
        if newest != number_of(n_added) or oldest != number_of(max(n_added + 1 - size, 0)):
            return None
        first, end = (n_added - n) % size, (n_added - 1) % size + 1
        places = slice(first, end) if first < end else np.arange(first, size + end) % size
        recent = [np.array(rows[places, :-1]) for rows in recent]
        return recent[0] if len(recent) == 1 else _of_all_replicas(np.stack(recent))

    def _read_recent(self) -> list[Any]:
        if self._replicas:
            return [read_now(each).numpy() for each in self._replicas]
        return read_metric(self._model, self.tracker.recent)

    def mean(self) -> float:
        """The running mean as Keras would log it now: 0 where nothing was added."""
        return mean_of(self._model, self.tracker)

    def is_empty(self) -> bool:
        """Whether nothing is in the running mean, which Keras logs as 0."""
        return not np.sum(read_metric(self._model, self.tracker.count))


def _of_all_replicas(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows of batches from those of each replica's parts of them, some of which may be empty."""
    losses, sizes = rows[..., 0], rows[..., 1]
    weighted = np.where(sizes == 0, 0.0, losses * sizes).sum(axis=0)
    size = sizes.sum(axis=0)
    mean = weighted / np.where(size == 0, 1.0, size)
    return np.stack([mean, size, rows[0, :, 2]], axis=1)


def _as_rows(kept: list[tuple[Any, Any, Any]]) -> np.ndarray[Any, Any]:
    """Rows of tensors and numbers of PyTorch, fetched a column at a time."""
    import torch

    columns = [
        torch.stack(column).tolist()
        if all(map(torch.is_tensor, column))
        else list(map(float, column))
        for column in zip(*kept, strict=True)
    ]
    return np.array(columns, dtype="float64").T


def mean_of(model: Any, metric: Any) -> float:
    """The value of a metric that is a mean; 0, as Keras has it, where nothing was added."""
    total, count = (np.sum(read_metric(model, each)) for each in (metric.total, metric.count))
    return float(total / count) if count else 0.0


def read_metric(model: Any, variable: Any) -> list[Any]:
    """A metric variable on each replica; on JAX Keras holds it elsewhere within an epoch."""
    state = getattr(model, "_jax_state", None)
    if state and not model._jax_state_synced:
        for each, value in zip(model.metrics_variables, state["metrics_variables"], strict=True):
            if each is variable:
                return [np.asarray(value)]
    if backend_of(model) == "tensorflow":
        return [read_now(each).numpy() for each in replicas_of(variable)]
    return [to_numpy(variable)]


def install(model: Any) -> Reader:
    """Let the model use a tracker that remembers.

    It stays in the model, where it serves as the plain mean did, so that a later `fit` does not
    compile its step again.
    """
    legacy = is_legacy(model)
    place, name = (model.compiled_loss, "_total_loss_mean") if legacy else (model, "_loss_tracker")
    steps = model._steps_per_execution if legacy else model.steps_per_execution
    kind, size = _kind(model), max(SIZE, int(to_numpy(steps)))
    tracker = getattr(place, name)
    if isinstance(tracker, kind) and tracker.size == size:
        tracker.rate.attach(model)
        return Reader(model, tracker)
    with _scope(model):
        tracker = kind(rate_of(model), size)
    _require_one_for_each_replica(tracker)
    # Past Keras' attribute tracking, which would list the metric twice.
    object.__setattr__(place, name, tracker)
    if legacy or model.built:
        # The step may have been traced with the old tracker.
        model.train_function = model.test_function = None
        model.make_train_function()
    return Reader(model, tracker)


def _scope(model: Any) -> Any:
    """Where the model's variables are made: on TensorFlow, on each replica."""
    if backend_of(model) != "tensorflow":
        return nullcontext()
    return model.distribute_strategy.scope()


def _require_one_for_each_replica(tracker: Any) -> None:
    """Refuse metrics that add up what the replicas measure as soon as they measure it."""
    if isinstance(tracker, EagerLossTracker) or len(replicas_of(tracker.n_added)) == 1:
        return
    variable = tracker.n_added.value if isinstance(tracker, LossTracker) else tracker.n_added
    if variable.synchronization.name != "ON_READ":
        raise UnsupportedError(
            "SpikeGuard needs a Keras whose metrics keep what each replica measures, "
            f"got {keras.__version__}: use a newer one, or one replica"
        )


def _kind(model: Any) -> Any:
    if is_legacy(model):
        from pykguard._legacy import LegacyLossTracker

        return LegacyLossTracker
    eager = backend_of(model) == "torch" and not model.jit_compile
    return EagerLossTracker if eager else LossTracker
