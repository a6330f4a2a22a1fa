"""Finding a model's optimizers, and what they hold when they are new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras


def optimizers(model: Any) -> list[Any]:
    """The optimizer a model was compiled with, and those in its attributes (as GANs have them).

    An attribute may be an optimizer, or a list, tuple or dictionary of them.
    """
    held = [getattr(model, "optimizer", None)]
    for value in vars(model).values():
        if isinstance(value, Mapping):
            held.extend(value.values())
        elif isinstance(value, (list, tuple)):
            held.extend(value)
        else:
            held.append(value)
    return list(each_once(o for o in held if isinstance(o, keras.optimizers.Optimizer)))


def innermost(optimizer: Any) -> Any:
    """The optimizer that a `LossScaleOptimizer` wraps, or the optimizer itself."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def moving_averages(optimizer: Any) -> list[Any]:
    """The averages that `use_ema` keeps, which become the weights when training ends."""
    return list(getattr(innermost(optimizer), "_model_variables_moving_average", None) or [])


def new_values(optimizer: Any) -> list[tuple[Any, Any]]:
    """Pairs of an optimizer's variable and a variable with the value it had when it was built."""
    config = optimizer.get_config()
    if not isinstance(config.get("learning_rate", 0.0), float):
        config["learning_rate"] = 0.001  # not asked for here, and schedules may not deserialize
    twin = type(optimizer).from_config(config)
    twin.build(innermost(optimizer)._trainable_variables)
    rate, twin_rate = innermost(optimizer)._learning_rate, innermost(twin)._learning_rate
    ours = [v for v in optimizer.variables if v is not rate]
    return list(zip(ours, (v for v in twin.variables if v is not twin_rate), strict=True))


def each_once(items: Iterable[Any]) -> Iterator[Any]:
    """The items without repetitions, compared by identity."""
    seen: set[int] = set()
    for item in items:
        if id(item) not in seen:
            seen.add(id(item))
            yield item
