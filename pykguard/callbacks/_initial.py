"""Acting on a model that is about to train, once it has its variables and before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from pykguard._warnings import warn


def when_built(model: Any, then: Callable[[bool], None]) -> None:
    """Call `then(late)` when the model has its variables and no step has been taken.

    That is now, with `late` False, if the model is built. Keras on TensorFlow builds other models
    while it traces the first step, when it is too late to see the initial state; for them the
    training function is wrapped for one call, which builds the model from the shapes of its inputs.
    A model without a `call()`, such as a pair of networks with a `train_step`, is taken as it is.
    """
    if _is_built(model):
        then(False)
        return
    if type(model).call is keras.Model.call:
        if not _layers_are_built(model):
            _warn_of_unknown_start("it has no `call()`")
        then(False)
        return

    function = model.train_function

    def first_step(iterator: Any) -> Any:
        model.train_function = function
        try:
            inputs, _, _ = keras.utils.unpack_x_y_sample_weight(iterator.element_spec)
            model(_symbolic(inputs))
        except Exception as error:  # of the model's own code, or data of unknown shape
            _warn_of_unknown_start(f"{type(error).__name__}: {error}")
        then(True)
        return function(iterator)

    model.train_function = first_step


def _is_built(model: Any) -> bool:
    return bool(model.built) and _layers_are_built(model)


def _layers_are_built(model: Any) -> bool:
    return all(layer.built for layer in model._flatten_layers(include_self=False))


def _warn_of_unknown_start(why: str) -> None:
    warn(
        "the model has variables to come that cannot be made before its first step, so there is no "
        f"going back to its initial state; build it before `fit` ({why})"
    )


def _symbolic(spec: Any) -> Any:
    def symbolic(leaf: Any) -> Any:
        shape = tuple(leaf.shape.as_list())
        return keras.KerasTensor(shape, keras.backend.standardize_dtype(leaf.dtype))

    return keras.tree.map_structure(symbolic, spec)
