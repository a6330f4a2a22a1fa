"""The loss of one model on one data set, in each of the ways in which training may differ.

Training measures its loss with dropout at work and with BatchNorm by the statistics of each batch;
`evaluate()` without the one and by moving statistics. The steps between the two are taken one at a
time here, so that each difference can be attributed.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import keras
import numpy as np

from pykguard._framework import backend_of, is_legacy, library_of, to_numpy
from pykguard._probe import Probe
from pykguard._random_state import untouched
from pykguard._warnings import warn

DEFAULT_BATCH_SIZE = 32


class Measured(NamedTuple):
    """Mean losses on the same data, weighted by the batches' sizes.

    Attributes:
        evaluated: As `evaluate()` gives it.
        training: As in training.
        frozen: As in training, but BatchNorm by its moving statistics.
        inference: As `evaluate()` should give it, in double precision over the batches.
        regularisation: The part of `evaluated` that is the sum of the model's own losses.
    """

    evaluated: float
    training: float
    frozen: float
    inference: float
    regularisation: float


def measure(model: Any, probe: Probe, batch_size: int | None) -> Measured:
    """The losses of the model as it stands, which is left as it was but for its metrics.

    Args:
        model: A compiled model, or what stands for the only one of a loop.
        probe: The data.
        batch_size: Rows in a batch, on which BatchNorm's statistics depend. Defaults to Keras' 32.
    """
    with _as_it_was(model):
        evaluated = probe.loss(model, batch_size)
    model = getattr(model, "itself", model)
    rows = batch_size or DEFAULT_BATCH_SIZE
    try:
        training, _ = _mean(model, probe, rows, training=True)
        with _frozen_batch_norm(model):
            frozen, _ = _mean(model, probe, rows, training=True)
        inference, regularisation = _mean(model, probe, rows, training=False)
    except Exception as error:
        warn(f"LossHistory: the model cannot be run on `data` as in training ({error})")
        training = frozen = inference = regularisation = math.nan
    model.reset_metrics()
    return Measured(evaluated, training, frozen, inference, regularisation)


def _mean(model: Any, probe: Probe, rows: int, *, training: bool) -> tuple[float, float]:
    """The mean loss and the mean of the part that is the model's own losses."""
    losses, own, sizes = [], [], []
    takes = inspect.signature(model.compute_loss).parameters
    options = {"training": training} if "training" in takes else {}
    # Each run begins with the same moving statistics and draws the same random numbers.
    with _as_it_was(model), untouched(), _without_gradients(model):
        for x, y, weights in _batches(model, probe, rows):
            y_pred = model(x, training=training)
            loss = model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=weights, **options)
            losses.append(float(to_numpy(loss)))
            own.append(sum(float(to_numpy(each)) for each in model.losses))
            sizes.append(len(keras.tree.flatten(x)[0]))
    return float(np.average(losses, weights=sizes)), float(np.average(own, weights=sizes))


def _batches(model: Any, probe: Probe, rows: int) -> Iterator[Any]:
    parts = tuple(probe.data)
    n = len(keras.tree.flatten(parts[0])[0])
    for first in range(0, n, rows):
        yield keras.tree.map_structure(lambda a, i=first: _tensor(model, a, i, i + rows), parts)


def _tensor(model: Any, array: Any, first: int, end: int) -> Any:
    """Some rows as `evaluate()` feeds them: numbers with a fraction in the backend's precision."""
    if array is None or array.dtype.kind in "SU":
        return None if array is None else array[first:end]
    dtype = library_of(model).backend.floatx() if array.dtype.kind == "f" else None
    if not is_legacy(model):
        return keras.ops.convert_to_tensor(array[first:end], dtype=dtype)
    import tensorflow as tf

    return tf.convert_to_tensor(array[first:end], dtype=dtype)


@contextmanager
def _as_it_was(model: Any) -> Iterator[None]:
    """Whatever a forward pass updates, such as moving statistics, is put back."""
    held = [(v, np.array(to_numpy(v))) for v in model.variables]
    try:
        yield
    finally:
        for variable, value in held:
            variable.assign(value)


@contextmanager
def _frozen_batch_norm(model: Any) -> Iterator[None]:
    """BatchNorm uses its moving statistics in training too, as it does where it is frozen."""
    kind = library_of(model).layers.BatchNormalization
    layers = [
        layer for layer in model._flatten_layers() if isinstance(layer, kind) and layer.trainable
    ]
    weights = [(weight, weight.trainable) for layer in layers for weight in layer.weights]
    for layer in layers:
        layer.trainable = False
    try:
        yield
    finally:
        for layer in layers:
            layer.trainable = True
        if not is_legacy(model):  # where a weight has no say of its own
            for weight, was_trainable in weights:
                weight.trainable = was_trainable


def _without_gradients(model: Any) -> Any:
    if backend_of(model) != "torch":
        return nullcontext()
    import torch

    return torch.no_grad()
