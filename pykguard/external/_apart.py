"""Compiled steps that run apart, so that the main thread can answer the calls that they make.

They are traced on the main thread all the same: tracing runs Python code of layers and metrics,
and Keras keeps for each thread a state of its own that such code reads and writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

import keras

from pykguard._errors import UnsupportedError
from pykguard._framework import backend_of, require_one_replica
from pykguard.external import _failure
from pykguard.external._main_thread import OnMain, is_main, run_apart

Function = Callable[..., Any]


class TracedApartError(UnsupportedError):
    """A step was about to be traced on another thread than the main one."""


def must_run_apart(model: Any) -> bool:
    """Whether the model's steps are compiled, and may call what needs the main thread.

    Raises:
        UnsupportedError: They do, and the model is trained on several devices.
    """
    if not OnMain.there_are_some or model.run_eagerly or not is_main():
        return False
    if backend_of(model) == "jax":
        if keras.distribution.distribution() is not None:
            raise UnsupportedError("an external loss of R's needs a model on one device")
        return bool(model.jit_compile)
    if backend_of(model) == "tensorflow":
        require_one_replica(model, "an external loss of R's")
        return True
    return False


def on_tensorflow(function: Function) -> Function:
    """What `function(iterator)`, made by Keras, does."""
    import tensorflow as tf

    of_iterator, of_data = _compiled_parts(function)
    traced: ref[Any] | None = None

    def trace(iterator: Any) -> None:
        nonlocal traced
        of_iterator.get_concrete_function(iterator)
        traced = ref(iterator)

    def apart(iterator: Any) -> Any:
        if tf.config.functions_run_eagerly():
            return function(iterator)
        if not isinstance(iterator, (tf.data.Iterator, tf.distribute.DistributedIterator)):
            batches = list(iterator)  # one, from `train_on_batch()`
            for batch in batches:
                of_data.get_concrete_function(batch)
            return run_apart(function, iter(batches))
        if traced is None or traced() is not iterator:
            trace(iterator)
        try:
            return run_apart(function, iterator)
        except TracedApartError:  # what was traced has been forgotten since
            _failure.taken()
            trace(iterator)
            return run_apart(function, iterator)

    return apart


def on_jax(step: Any) -> Function:
    """What `step(state, data)`, compiled by JAX, does; what it returns is ready."""
    import jax

    traced = set()

    def run(state: Any, data: Any) -> Any:
        return jax.block_until_ready(step(state, data))

    def apart(state: Any, data: Any) -> Any:
        leaves, structure = jax.tree.flatten(data)
        signature = structure, *((leaf.shape, leaf.dtype) for leaf in leaves)
        if signature not in traced:
            step.lower(state, data)
            traced.add(signature)
        try:
            return run_apart(run, state, data)
        except TracedApartError:  # what was traced has been forgotten since
            _failure.taken()
            step.lower(state, data)
            return run_apart(run, state, data)

    return apart


def _compiled_parts(function: Any) -> tuple[Any, Any]:
    """The parts of Keras' function that are compiled, for an iterator and for a batch."""
    if hasattr(function, "get_concrete_function"):  # of tf_keras, which has iterators only
        return function, None
    names = function.__code__.co_freevars
    cells = dict(zip(names, (cell.cell_contents for cell in function.__closure__), strict=True))
    of_data = cells["one_step_on_data"]
    if not hasattr(of_data, "get_concrete_function"):
        of_data = of_data.__wrapped__
    return cells["multi_step_on_iterator"], of_data
