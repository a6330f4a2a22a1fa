"""The loss of a batch where a `train_step` keeps it to itself, as well as it can be known."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pykguard._framework import library_of
from pykguard.history._tracker import read_metric


class Guess(NamedTuple):
    """A batch's loss to within `bound`, and the weight that its batch had in the mean."""

    loss: float
    size: float
    bound: float


class OwnMean:
    """A mean named "loss" that the `train_step` of a model updates in place of Keras' own.

    With `T` its total and `n` its count after a batch, and `T'` and `n'` before it, the batch's
    loss is `(T - T') / (n - n')`. `T` was rounded once when the batch was added, so this is off by
    at most `u * (|T| + |T - T'|) / (n - n')`, where `u = 2**-24` in float32.
    """

    def __init__(self, model: Any, tracker: Any) -> None:
        means = [
            metric
            for metric in model.metrics
            if metric.name == "loss"
            and metric is not tracker
            and isinstance(metric, library_of(model).metrics.Mean)
        ]
        self._model = model
        self._metric = means[0] if means else None
        self._before = (0.0, 0.0)

    @property
    def exists(self) -> bool:
        """Whether the model has one."""
        return self._metric is not None

    def after_steps(self, n: int) -> Guess | None:
        """What is known of the batch, after an execution of `n` steps; None without such a mean."""
        if self._metric is None:
            return None
        total, count = (
            float(np.sum(read_metric(self._model, v)))
            for v in (self._metric.total, self._metric.count)
        )
        total_before, count_before = self._before if count > self._before[1] else (0.0, 0.0)
        self._before = total, count
        size = count - count_before
        if size <= 0:
            return None
        unit = float(np.finfo(self._metric.dtype).eps) / 2
        bound = unit * (abs(total) + abs(total - total_before)) / size
        return Guess((total - total_before) / size, size, math.inf if n > 1 else bound)
