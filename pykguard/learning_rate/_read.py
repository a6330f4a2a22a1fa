"""Which learning rate a model uses."""

from __future__ import annotations

from typing import Any

from pykguard._framework import to_numpy
from pykguard._optimizers import innermost, optimizers
from pykguard.learning_rate._compiled import is_compiled, is_in_force, renew
from pykguard.learning_rate._held import value_now
from pykguard.learning_rate._target import find_target


def read_learning_rate(model: Any) -> float | None:
    """The rate of the model's optimizer; None where it has none.

    Of several it is the first that has taken a step: Keras compiles a model with an optimizer even
    where its `train_step` has others of its own.
    """
    all_of_them = [innermost(optimizer) for optimizer in optimizers(model)]
    in_use = [o for o in all_of_them if int(to_numpy(o.iterations)) > 0]
    for optimizer in in_use or all_of_them:
        return value_now(optimizer)
    return None


def current_learning_rate(model_or_optimizer: Any) -> float:
    """The learning rate that the next step will use.

    That is the number that the optimizer holds, or `s(t)` with its schedule `s` and its step `t`. A
    compiled step goes on with the schedule that it was traced with, whatever was assigned to
    `optimizer.learning_rate` since, and does not show which one that was. Where it is not known to
    be the same, it is therefore traced anew at its next call, so that what is returned is true.

    Args:
        model_or_optimizer: A Keras model that was compiled with one optimizer, or an optimizer; of
            Keras 3 or of tf_keras.

    Returns:
        The rate. A callable rate is called once for it.

    Raises:
        OptionTypeError, OptionValueError: It is something else, or the model has no optimizer or
            several.

    Example:
        >>> current_learning_rate(model)
    """
    model, optimizer = find_target(model_or_optimizer)
    if not is_in_force(optimizer) and is_compiled(optimizer, model):
        renew(optimizer, model)
    return value_now(optimizer)
