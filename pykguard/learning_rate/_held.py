"""What an optimizer holds as its learning rate: a variable, a schedule or a callable."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import keras

from pykguard._framework import to_numpy
from pykguard.learning_rate._schedule import is_schedule_like


def as_given(optimizer: Any) -> Any:
    """An optimizer's rate as it was given: a schedule or a function, or else a variable."""
    if hasattr(optimizer, "_learning_rate"):
        return optimizer._learning_rate
    return optimizer._hyper["learning_rate"]  # an optimizer of tf_keras' older kind


def value_now(optimizer: Any) -> float:
    """The rate at the optimizer's present step, by what it holds."""
    rate = as_given(optimizer)
    if is_of_legacy(optimizer) and is_schedule_like(rate):
        return float(to_numpy(rate(optimizer.iterations)))  # tf_keras shows the last step's
    return float(to_numpy(optimizer.learning_rate))


def counter_of(optimizer: Any) -> Any:
    """The variable that counts the steps by which a schedule is asked.

    While gradients accumulate, it counts batches, unlike `optimizer.iterations`.
    """
    own = getattr(optimizer, "_iterations", None)
    return optimizer.iterations if own is None else own


def is_of_legacy(optimizer: Any) -> bool:
    """Whether it is an optimizer of tf_keras."""
    legacy = sys.modules.get("tf_keras")
    if legacy is None:
        return False
    return isinstance(optimizer, (legacy.optimizers.Optimizer, legacy.optimizers.legacy.Optimizer))


def hold(optimizer: Any, rate: Any) -> None:
    """Let an optimizer hold another rate, whatever it held before.

    The rate's variable is the second of a Keras optimizer's variables wherever there is one, since
    that is where saving and loading expect it.

    Args:
        optimizer: An optimizer that wraps no other.
        rate: A number, or a schedule or callable of the optimizer's own library.
    """
    if not callable(rate) and not callable(as_given(optimizer)):
        optimizer.learning_rate = rate
    elif hasattr(optimizer, "_hyper"):
        optimizer._hyper["learning_rate"] = (
            rate if callable(rate) else _old_variable(optimizer, rate)
        )
    elif is_of_legacy(optimizer):
        optimizer._learning_rate = optimizer._build_learning_rate(rate)
    elif callable(rate):
        optimizer.learning_rate = rate
    else:
        _give_variable(optimizer, rate)


def _give_variable(optimizer: Any, rate: float) -> None:
    with _scope_of(optimizer):
        variable = keras.Variable(
            rate,
            name="learning_rate",
            dtype=keras.config.floatx(),
            trainable=False,
            aggregation="only_first_replica",
        )
    tracker = optimizer._tracker
    locked = tracker.locked
    tracker.unlock()
    optimizer._learning_rate = variable
    if locked:
        tracker.lock()
    variables = optimizer._variables
    variables.insert(1, variables.pop())


def _old_variable(optimizer: Any, rate: float) -> Any:
    import tensorflow as tf

    with tf.init_scope():
        return optimizer.add_weight(
            "learning_rate",
            shape=[],
            trainable=False,
            initializer=sys.modules["tf_keras"].initializers.Constant(rate),
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )


def _scope_of(optimizer: Any) -> Any:
    """Where variables have to be made to serve all the replicas that the optimizer serves."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    return optimizer._distribution_strategy.scope()
