"""Snapshots on TensorFlow: shadow variables, assigned in one compiled function.

`assign` inside a `tf.function` shares the buffer with its source until one of the two is written
to, so taking a snapshot costs far less than copying its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pykguard.snapshots._base import Snapshot, Snapshots


class TensorFlowSnapshots(Snapshots):
    """Keeps training states in shadow `tf.Variable`s."""

    def __init__(self, model: Any, *, optimizer: bool) -> None:
        super().__init__(model, optimizer=optimizer)
        self._copiers: dict[tuple[tuple[int, int], ...], Any] = {}
        self._checkers: dict[tuple[int, ...], Any] = {}

    def _allocate(self, variables: Sequence[Any]) -> Sequence[Any]:
        return [_shadow(_tensor_variable(v)) for v in variables]

    def _fill(self, snapshot: Snapshot) -> None:
        self._copy([_tensor_variable(v) for v in snapshot.variables], snapshot.copies)

    def _write_back(self, snapshot: Snapshot) -> None:
        self._copy(snapshot.copies, [_tensor_variable(v) for v in snapshot.variables])

    def _copy(self, sources: Sequence[Any], targets: Sequence[Any]) -> None:
        key = tuple((id(s), id(t)) for s, t in zip(sources, targets, strict=True))
        if key not in self._copiers:
            # At most two are wanted at a time: there and back. Old ones would keep buffers alive.
            if len(self._copiers) >= 2:
                self._copiers.clear()
            self._copiers[key] = _compile(_assign_all(list(sources), list(targets)))
        self._copiers[key]()

    def _non_finite(self, variables: Sequence[Any]) -> list[int]:
        places = [i for i, v in enumerate(variables) if _tensor_variable(v).dtype.is_floating]
        if not places:
            return []
        key = tuple(id(variables[i]) for i in places)
        if key not in self._checkers:
            self._checkers.clear()
            tensors = [_tensor_variable(variables[i]) for i in places]
            self._checkers[key] = _compile(_finite_flags(tensors))
        finite = self._checkers[key]().numpy()
        return [place for place, is_finite in zip(places, finite, strict=True) if not is_finite]

    def _to_array(self, copy: Any) -> np.ndarray[Any, Any]:
        return np.array(copy.numpy())

    def _load(self, snapshot: Snapshot, arrays: Sequence[np.ndarray[Any, Any]]) -> None:
        for copy, array in zip(snapshot.copies, arrays, strict=True):
            copy.assign(tf.cast(array, copy.dtype))


def _tensor_variable(variable: Any) -> Any:
    """The `tf.Variable` behind a Keras variable."""
    return variable.value


def _compile(function: Any) -> Any:
    """One trace for good; TensorFlow warns of many small functions that share their name."""
    return tf.function(function, autograph=False).get_concrete_function()


def _shadow(variable: Any) -> Any:
    with tf.device(variable.device):
        return tf.Variable(tf.zeros(variable.shape, variable.dtype), trainable=False)


def _assign_all(sources: Sequence[Any], targets: Sequence[Any]) -> Any:
    def assign() -> None:
        for source, target in zip(sources, targets, strict=True):
            target.assign(source)

    return assign


def _finite_flags(variables: Sequence[Any]) -> Any:
    def flags() -> Any:
        return tf.stack([tf.reduce_all(tf.math.is_finite(v)) for v in variables])

    return flags
