"""What users name when they ask for a learning rate: a model, or an optimizer."""

from __future__ import annotations

import sys
from typing import Any

import keras

from pykguard._errors import OptionTypeError, OptionValueError
from pykguard._framework import backend_of
from pykguard._optimizers import innermost, is_optimizer, optimizers


def find_target(model_or_optimizer: Any) -> tuple[Any, Any]:
    """The model, if one was named, and the optimizer that computes with the rate.

    Raises:
        OptionTypeError: It is neither.
        OptionValueError: The model has no optimizer, or several; or it is one on JAX whose values a
            running `fit` keeps to itself.
    """
    argument = "model_or_optimizer"
    if is_optimizer(model_or_optimizer):
        optimizer = innermost(model_or_optimizer)
        if keras.backend.backend() == "jax" and _is_lent(optimizer):
            requirement = "the model, or the optimizer when no `fit` is running, on JAX"
            raise OptionValueError(argument, requirement, model_or_optimizer)
        return None, optimizer
    model: Any = model_or_optimizer
    legacy = sys.modules.get("tf_keras")
    kinds: tuple[Any, ...] = (keras.Model, legacy.Model) if legacy else (keras.Model,)
    if not isinstance(model, kinds):
        raise OptionTypeError(argument, "a Keras model or optimizer", model)
    held = optimizers(model)
    if not held:
        raise OptionValueError(argument, "a model that was compiled with an optimizer", model)
    if len(held) > 1:
        requirement = f"one of the model's {len(held)} optimizers, or a model that has only one"
        raise OptionValueError(argument, requirement, model)
    if backend_of(model) == "jax":
        model.jax_state_sync()
    return model, innermost(held[0])


def _is_lent(optimizer: Any) -> bool:
    """Whether the optimizer's values are with a compiled step."""
    value = getattr(optimizer._iterations, "_value", None)
    return value is None or getattr(value, "is_deleted", bool)()
