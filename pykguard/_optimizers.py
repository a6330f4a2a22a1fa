"""Finding a model's optimizers, and what they hold when they are new."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras


def optimizers(model: Any) -> list[Any]:
    """The optimizer a model was compiled with, and those in its attributes (as GANs have them).

    An attribute may be an optimizer, or a list, tuple or dictionary of them.
    """
    held = [getattr(model, "optimizer", None)]
    for value in list(vars(model).values()):
        if isinstance(value, Mapping):
            held.extend(value.values())
        elif isinstance(value, (list, tuple)):
            held.extend(value)
        else:
            held.append(value)
    kinds = _kinds()
    return list(each_once(o for o in held if isinstance(o, kinds)))


def is_optimizer(thing: Any) -> bool:
    """Whether it is an optimizer of Keras 3 or of tf_keras."""
    return isinstance(thing, _kinds())


def innermost(optimizer: Any) -> Any:
    """The optimizer that a `LossScaleOptimizer` wraps, or the optimizer itself."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def variables_of(optimizer: Any) -> list[Any]:
    """The optimizer's variables but its learning rate, which belongs to the user.

    Iterations, slots, accumulators, moving averages, loss scale.
    """
    rate = getattr(innermost(optimizer), "_learning_rate", None)
    variables = optimizer.variables
    held = list(variables() if callable(variables) else variables)
    # tf_keras does not count the loss scale among the variables.
    loss_scale = getattr(optimizer, "_loss_scale", None)
    held.extend(getattr(loss_scale, "_weights", {}).values())
    return [v for v in each_once(held) if v is not rate]


def moving_averages(optimizer: Any) -> list[Any]:
    """The averages that `use_ema` keeps, which become the weights when training ends."""
    averages = getattr(innermost(optimizer), "_model_variables_moving_average", None) or []
    return [average for average in averages if average is not None]


def stands_for_loop(model: Any) -> bool:
    """Whether it is no model but stands for a loop of the user's own."""
    return hasattr(model, "finalize_optimizers")


def finalize(model: Any) -> None:
    """What Keras does when training ends, for a state that was put back after that."""
    if stands_for_loop(model):
        model.finalize_optimizers()
        return
    if moving_averages(model.optimizer):
        model.optimizer.finalize_variable_values(model.trainable_variables)


def new_values(optimizer: Any, weights: list[Any]) -> list[tuple[Any, Any]]:
    """Pairs of an optimizer's variable and a variable with the value it had when it was built.

    Args:
        optimizer: A built optimizer.
        weights: The model's trainable variables, for optimizers that do not remember theirs.
    """
    config = optimizer.get_config()
    if not isinstance(config.get("learning_rate", 0.0), float):
        config["learning_rate"] = 0.001  # not asked for here, and schedules may not deserialize
    twin = type(optimizer).from_config(config)
    twin.build(getattr(innermost(optimizer), "_trainable_variables", weights))
    return list(zip(variables_of(optimizer), variables_of(twin), strict=True))


def each_once(items: Iterable[Any]) -> Iterator[Any]:
    """The items without repetitions, compared by identity."""
    seen: set[int] = set()
    for item in items:
        if id(item) not in seen:
            seen.add(id(item))
            yield item


def _kinds() -> tuple[type, ...]:
    legacy = sys.modules.get("tf_keras")
    if legacy is None:
        return (keras.optimizers.Optimizer,)
    old = legacy.optimizers
    return (keras.optimizers.Optimizer, old.Optimizer, old.legacy.Optimizer)
