"""The models of a loop, each with the optimizer that trains it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import keras

from pykguard._built_for import is_built, is_built_for_others
from pykguard._errors import OptionTypeError, OptionValueError
from pykguard._framework import is_legacy, library_of, require_one_replica
from pykguard._optimizers import is_optimizer
from pykguard.learning_rate import is_of_legacy


def check_pairs(models: Any, optimizers: Any) -> tuple[list[Any], list[Any]]:
    """The models and, in the same order, their optimizers, which are built if they were not.

    Raises:
        OptionTypeError, OptionValueError: One of them is something else or there twice, a model has
            no variables yet, or an optimizer was built for variables that its model does not have.
        UnsupportedError: A model is trained on several replicas.
    """
    models, optimizers = _as_list(models), _as_list(optimizers)
    _check_models(models)
    _check_optimizers(models, optimizers)
    for model, optimizer in zip(models, optimizers, strict=True):
        _build(optimizer, list(model.trainable_variables))
    return models, optimizers


def _as_list(given: Any) -> list[Any]:
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _check_models(models: Sequence[Any]) -> None:
    legacy = sys.modules.get("tf_keras")
    kinds: tuple[Any, ...] = (keras.Model, legacy.Model) if legacy else (keras.Model,)
    requirement = "a Keras model, or a list of different ones"
    if not all(isinstance(model, kinds) for model in models):
        raise OptionTypeError("models", requirement, models)
    if not models or len({id(model) for model in models}) < len(models):
        raise OptionValueError("models", requirement, models)
    if len({is_legacy(model) for model in models}) > 1:
        raise OptionValueError("models", "all of Keras 3 or all of tf_keras", models)
    for model in models:
        require_one_replica(model, "guarded_loop")
        if not model.built or not model.trainable_variables:
            requirement = "built, with trainable variables: call it on a batch first"
            raise OptionValueError("models", requirement, model)


def _check_optimizers(models: Sequence[Any], optimizers: Sequence[Any]) -> None:
    for optimizer in optimizers:
        if not is_optimizer(optimizer):
            requirement = "a Keras optimizer, or a list of them"
            raise OptionTypeError("optimizers", requirement, optimizer)
        if is_of_legacy(optimizer) != is_legacy(models[0]):
            name = library_of(models[0]).__name__
            raise OptionValueError("optimizers", f"of {name}, as the models are", optimizer)
    if len(optimizers) != len(models) or len({id(each) for each in optimizers}) < len(models):
        requirement = f"one for each of the {len(models)} models, in the same order"
        raise OptionValueError("optimizers", requirement, list(optimizers))
    for place, (model, optimizer) in enumerate(zip(models, optimizers, strict=True), 1):
        if is_built_for_others(optimizer, model):
            requirement = (
                f"built for variables of their models, but that of model {place} of {len(models)} "
                f"was built for others than the trainable variables of {model.name!r}"
            )
            raise OptionValueError("optimizers", requirement, optimizer)


def _build(optimizer: Any, variables: list[Any]) -> None:
    if not is_of_legacy(optimizer):
        if not optimizer.built:
            optimizer.build(variables)
    elif hasattr(optimizer, "build"):
        if not is_built(optimizer):
            optimizer.build(variables)
    else:
        optimizer._create_all_weights(variables)
