"""Compiled steps that go on with the schedule they were traced with, until they are traced anew."""

from __future__ import annotations

import gc
import sys
from typing import Any
from weakref import WeakKeyDictionary, ref

import keras

from pykguard._framework import backend_of
from pykguard.learning_rate._held import as_given, counter_of, is_of_legacy


def renew(optimizer: Any, model: Any = None) -> None:
    """Have each compiled step that uses the optimizer traced anew when it is called next.

    Args:
        optimizer: An optimizer that wraps no other.
        model: The model that Keras trains with it, if that is known.
    """
    if model is not None:
        renew_step(model)
    if is_of_legacy(optimizer) or keras.backend.backend() == "tensorflow":
        _forget_graphs(optimizer)
    elif keras.backend.backend() == "jax" and model is None:
        import jax

        jax.clear_caches()
    note_in_force(optimizer)


def renew_step(model: Any) -> None:
    """Have the step of Keras' own `fit` compiled anew, also within a fit."""
    if model.train_function is not None:
        model.train_function = None  # a `make_train_function` of the user's may take no `force`
        model.make_train_function()


def is_in_force(optimizer: Any) -> bool:
    """Whether the next step is known to use what the optimizer holds."""
    rate = as_given(optimizer)
    noted = _in_force.get(optimizer)
    return not callable(rate) or (noted is not None and noted() is rate)


def note_in_force(optimizer: Any) -> None:
    """Note that the next step will use what the optimizer holds now."""
    rate = as_given(optimizer)
    if callable(rate):
        _in_force[optimizer] = ref(rate)
    else:
        _in_force.pop(optimizer, None)


def is_compiled(optimizer: Any, model: Any) -> bool:
    """Whether there may be a compiled step that uses the optimizer."""
    if model is not None and model.train_function is None:
        return False
    return model is None or backend_of(model) != "torch"


def _forget_graphs(optimizer: Any) -> None:
    """Empty the caches of all functions of TensorFlow that were traced with the optimizer.

    They are those into whose graph its step counter went. TensorFlow keeps no list of them.
    """
    if "tensorflow" not in sys.modules:
        return
    from tensorflow.core.function.polymorphism.function_cache import FunctionCache

    counter = counter_of(optimizer)
    counter = counter.value if isinstance(counter, keras.Variable) else counter
    handles = {id(each.handle) for each in _parts(counter)}
    # Not by `isinstance()`, which asks weak proxies for a class that may be gone.
    for cache in [each for each in gc.get_objects() if type(each) is FunctionCache]:
        if any(_captures(function, handles) for function in cache.values()):
            cache.clear()


def _parts(variable: Any) -> list[Any]:
    """A TensorFlow variable, or those of which a mirrored one is made."""
    return list(getattr(variable, "values", None) or [variable])


def _captures(function: Any, handles: set[int]) -> bool:
    return any(id(tensor) in handles for tensor in function.captured_inputs)


# By optimizer, the schedule or callable that compiled steps are known to use.
_in_force: WeakKeyDictionary[Any, ref[Any]] = WeakKeyDictionary()
