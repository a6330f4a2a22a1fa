"""Acting on a model that is about to train, once it has its variables and before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from pykguard._framework import backend_of, is_legacy, library_of
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
    if backend_of(model) != "tensorflow" or type(model).call is library_of(model).Model.call:
        if not _layers_are_built(model):
            _warn_of_unknown_start("it has no `call()`, or does not call all of its layers")
        then(False)
        return

    function = model.train_function

    def first_step(iterator: Any) -> Any:
        model.train_function = function
        try:
            inputs = library_of(model).utils.unpack_x_y_sample_weight(iterator.element_spec)[0]
            with model.distribute_strategy.scope():
                _build(model, inputs)
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


def _build(model: Any, inputs: Any) -> None:
    import tensorflow as tf

    def of_one_replica(spec: Any) -> Any:
        return getattr(spec, "_value_specs", (spec,))[0]

    def symbolic(spec: Any) -> Any:
        shape = tuple(spec.shape.as_list())
        return keras.KerasTensor(shape, keras.backend.standardize_dtype(spec.dtype))

    specs = tf.nest.map_structure(of_one_replica, inputs)
    if is_legacy(model):
        tf.function(lambda x: model(x)).get_concrete_function(specs)
    else:
        model(tf.nest.map_structure(symbolic, specs))
