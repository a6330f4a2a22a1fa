"""Finding a model's optimizers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras


def optimizers(model: Any) -> list[Any]:
    """The optimizer a model was compiled with, and those it holds as attributes (as GANs do)."""
    found = [getattr(model, "optimizer", None), *vars(model).values()]
    return list(each_once(o for o in found if isinstance(o, keras.optimizers.Optimizer)))


def innermost(optimizer: Any) -> Any:
    """The optimizer that a `LossScaleOptimizer` wraps, or the optimizer itself."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def each_once(items: Iterable[Any]) -> Iterator[Any]:
    """The items without repetitions, compared by identity."""
    seen: set[int] = set()
    for item in items:
        if id(item) not in seen:
            seen.add(id(item))
            yield item
