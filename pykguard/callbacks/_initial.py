"""Acting on a model that is about to train, once it has its variables and before the first step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras

from pykguard._errors import GuardWarning


def when_built(model: Any, then: Callable[[], None]) -> None:
    """Call `then` when model and optimizer have their variables and no step has been taken.

    That is now, if the model is built. Keras on TensorFlow builds other models while it traces the
    first step, when it is too late to see the initial state; for them the training function is
    wrapped for one call, which builds the model from the shapes of the data. Where that cannot be
    done there is no initial state to see.
    """
    if model.built or (model.layers and all(layer.built for layer in model.layers)):
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)
        then()
        return

    function = model.train_function

    def first_step(iterator: Any) -> Any:
        model.train_function = function
        try:
            model._symbolic_build(data_batch=_symbolic_batch(iterator.element_spec))
        except Exception as error:  # of the model's own code, or data of unknown shape
            warnings.warn(
                "the model has no variables before its first step and could not be built from the "
                "shapes of its data, so there is no going back to its initial state; build it "
                f"before `fit` ({type(error).__name__})",
                GuardWarning,
                stacklevel=2,
            )
        then()
        return function(iterator)

    model.train_function = first_step


def _symbolic_batch(spec: Any) -> Any:
    def symbolic(leaf: Any) -> Any:
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            return None  # an absent part of the batch, such as no sample weights
        shape = tuple(leaf.shape.as_list())
        return keras.KerasTensor(shape, keras.backend.standardize_dtype(leaf.dtype))

    return keras.tree.map_structure(symbolic, spec)
