"""Which variables make up a model's training state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pykguard._framework import is_legacy
from pykguard._optimizers import each_once, moving_averages, optimizers, variables_of


def training_state(model: Any, *, optimizer: bool, metrics: bool) -> list[Any]:
    """The variables that a snapshot holds, each once, in a fixed order.

    They are the model's variables (weights, BatchNorm statistics, seed generators); with
    `optimizer`, those of every optimizer of the model (iterations, slots, accumulators, moving
    averages, loss scale) but not its learning rate, which belongs to the user and to `lr_factor`;
    with `metrics`, what the metrics have added up in this epoch. The moving averages of weights are
    always among them: they are the weights to be.
    """
    variables = list(model.variables)
    if is_legacy(model):
        variables.extend(_generators(model))
    for each in optimizers(model):
        variables.extend(variables_of(each) if optimizer else moving_averages(each))
    if metrics:
        variables.extend(metrics_state(model))
    return list(each_once(variables))


def metrics_state(model: Any) -> list[Any]:
    """The variables in which the metrics have added up this epoch.

    What a metric remembers of batches besides is no part of it: it tells what was, not what counts.
    """
    if is_legacy(model):
        variables = [variable for metric in model.metrics for variable in metric.variables]
    else:
        variables = list(model.metrics_variables)
    kept = {id(v) for metric in model.metrics for v in getattr(metric, "remembered", ())}
    return [variable for variable in variables if id(variable) not in kept]


def _generators(model: Any) -> Iterator[Any]:
    """The states of tf_keras' random layers, which are not among its models' variables."""
    for layer in model._flatten_layers():
        generator = getattr(getattr(layer, "_random_generator", None), "_generator", None)
        if generator is not None:
            yield generator.state
