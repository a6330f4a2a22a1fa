"""Acting on a model that is about to train, once it has its variables and before the first step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras

from pykguard._errors import GuardWarning


def when_built(model: Any, then: Callable[[bool], None]) -> None:
    """Call `then(late)` when model and optimizer have their variables and no step has been taken.

    That is now, with `late` False, if the model is built. Keras on TensorFlow builds other models
    while it traces the first step, when it is too late to see the initial state; for them the
    training function is wrapped for one call, which builds the model from the shapes of the data.
    A model without a `call()`, such as a pair of networks with a `train_step`, is taken as it is.
    """
    if model.built:
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)
        then(False)
        return
    if type(model).call is keras.Model.call:
        if not all(layer.built for layer in model.layers):
            _warn_of_unknown_start("it has no `call()`")
        then(False)
        return

    function = model.train_function

    def first_step(iterator: Any) -> Any:
        model.train_function = function
        try:
            model._symbolic_build(data_batch=_symbolic_batch(iterator.element_spec))
        except Exception as error:  # of the model's own code, or data of unknown shape
            _warn_of_unknown_start(f"{type(error).__name__}: {error}")
        then(True)
        return function(iterator)

    model.train_function = first_step


def _warn_of_unknown_start(why: str) -> None:
    warnings.warn(
        "the model has variables to come that cannot be made before its first step, so there is no "
        f"going back to its initial state; build it before `fit` ({why})",
        GuardWarning,
        stacklevel=3,
    )


def _symbolic_batch(spec: Any) -> Any:
    def symbolic(leaf: Any) -> Any:
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            return None  # an absent part of the batch, such as no sample weights
        shape = tuple(leaf.shape.as_list())
        return keras.KerasTensor(shape, keras.backend.standardize_dtype(leaf.dtype))

    return keras.tree.map_structure(symbolic, spec)
