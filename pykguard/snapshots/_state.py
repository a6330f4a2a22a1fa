"""Which variables make up a model's training state."""

from __future__ import annotations

from typing import Any

from pykguard._optimizers import each_once, innermost, moving_averages, optimizers


def training_state(model: Any, *, optimizer: bool) -> list[Any]:
    """The Keras variables that a snapshot holds, each once, in a fixed order.

    They are the model's variables (weights, BatchNorm statistics, seed generators) and, with
    `optimizer`, those of every optimizer of the model (iterations, slots, accumulators, moving
    averages, loss scale) but not its learning rate, which belongs to the user and to `lr_factor`.
    The moving averages of weights are always among them: they are the weights to be.
    """
    variables = list(model.variables)
    for each in optimizers(model):
        if optimizer:
            rate = innermost(each)._learning_rate
            variables.extend(v for v in each.variables if v is not rate)
        else:
            variables.extend(moving_averages(each))
    return list(each_once(variables))
